// Requirement .detect: every damage to a stored page is found when it is loaded.
#include "compress/page_store.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "compress/support.hpp"

namespace pagetrap::compress {
namespace {

struct Case {
  std::string name;
  Tier tier;
  bool trained;
  PageClass page_class;
  Bytes (*page)();
};

const std::vector<Case> kCases{
    {"lz4", Tier::warm, false, PageClass::compressed, [] { return text_pages(1); }},
    {"lz4_trained", Tier::warm, true, PageClass::compressed, [] { return text_pages(1); }},
    {"zstd", Tier::cold, false, PageClass::compressed, [] { return text_pages(1); }},
    {"zstd_trained", Tier::cold, true, PageClass::compressed, [] { return text_pages(1); }},
    {"raw", Tier::warm, false, PageClass::raw, [] { return random_bytes(page_size(), 1); }},
    {"same_filled", Tier::warm, false, PageClass::same_filled,
     [] { return Bytes(page_size(), std::byte{7}); }},
};

class Damage : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().trained) {
      ASSERT_TRUE(store_.train(text_pages(1000), GetParam().tier));
    }
    page_ = GetParam().page();
    stored_ = store_.store(page_, GetParam().tier).value();
    ASSERT_EQ(stored_.page_class, GetParam().page_class);
    const auto blob = PageStoreState::of(store_).blobs.look_at(stored_.blob);
    blob_ = blob.data();
    length_ = blob.size();
    ASSERT_EQ(length_, store_.statistics().blob_bytes);
  }
  Result<Done> load() { return store_.load(stored_, back_); }

  PageStore store_ = PageStore::create({}).value();
  Bytes page_;
  Bytes back_ = Bytes(page_size());
  StoredPage stored_;
  std::byte* blob_ = nullptr;
  std::size_t length_ = 0;
};

INSTANTIATE_TEST_SUITE_P(All, Damage, testing::ValuesIn(kCases),
                         [](const auto& each) { return each.param.name; });

TEST_P(Damage, OfAnySingleByteIsFound) {
  ASSERT_TRUE(load());
  ASSERT_EQ(back_, page_);
  for (std::size_t at = 0; at < length_; ++at) {
    for (const unsigned change : {1U << at % 8, 0xffU}) {
      blob_[at] ^= static_cast<std::byte>(change);
      const auto loaded = load();
      ASSERT_FALSE(loaded) << "byte " << at;
      ASSERT_EQ(loaded.error().number, EBADMSG);
      blob_[at] ^= static_cast<std::byte>(change);
    }
  }
  ASSERT_TRUE(load());
  ASSERT_EQ(back_, page_);
  EXPECT_EQ(store_.statistics().damaged, 2 * length_);
}

TEST_P(Damage, ByNoiseIsFound) {
  std::mt19937_64 random(2);
  const Bytes good(blob_, blob_ + length_);
  for (unsigned round = 0; round < 5000; ++round) {
    const std::size_t from = random() % length_;
    const std::size_t count = 1 + random() % (length_ - from);
    for (std::size_t i = 0; i < count; ++i) blob_[from + i] = static_cast<std::byte>(random());
    if (!std::equal(good.begin(), good.end(), blob_)) {
      ASSERT_FALSE(load());
    }
    std::ranges::copy(good, blob_);
  }
  EXPECT_TRUE(load());
}

TEST_P(Damage, OfTheHandleIsFound) {
  // Not promised for all handles, but a page is not expanded by a codec that did not make it.
  for (unsigned codec = 0; codec < 2; ++codec) {
    for (const PageClass other : {PageClass::same_filled, PageClass::compressed, PageClass::raw}) {
      StoredPage wrong = stored_;
      wrong.codec = static_cast<std::uint8_t>(codec);
      wrong.page_class = other;
      if (wrong.codec == stored_.codec && wrong.page_class == stored_.page_class) continue;
      EXPECT_EQ(store_.load(wrong, back_).error().number, EBADMSG);
    }
  }
}

TEST(SpilledDamage, OfTheFileIsFound) {
  const std::string path = testing::TempDir() + "/spill-" + std::to_string(::getpid());
  PageStoreOptions options;
  options.spill_bytes = 1_MiB;
  options.spill_file = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  ASSERT_GE(options.spill_file, 0);
  PageStore store = PageStore::create(std::move(options)).value();
  const Bytes text = text_pages(1);
  const StoredPage page = store.store(text).value();
  const std::size_t length = store.statistics().blob_bytes;
  ASSERT_TRUE(store.spill(page));
  EXPECT_EQ(store.statistics().blob_bytes, 0U);
  Bytes back(page_size());
  ASSERT_TRUE(store.load(page, back));
  ASSERT_EQ(back, text);
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  for (std::size_t at = 0; at < length; at += 13) {
    std::byte byte{};
    ASSERT_EQ(::pread(file, &byte, 1, static_cast<off_t>(at)), 1);
    byte ^= std::byte{4};
    ASSERT_EQ(::pwrite(file, &byte, 1, static_cast<off_t>(at)), 1);
    ASSERT_EQ(store.load(page, back).error().number, EBADMSG) << at;
    byte ^= std::byte{4};
    ASSERT_EQ(::pwrite(file, &byte, 1, static_cast<off_t>(at)), 1);
  }
  ASSERT_TRUE(store.load(page, back));
  ::close(file);
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace pagetrap::compress
