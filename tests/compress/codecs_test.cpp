// Codecs: what goes in comes out, and nothing that is not theirs makes them leave their bounds.
#include <sys/mman.h>

#include "compress/own_memory.hpp"
#include "compress/support.hpp"

namespace pagetrap::compress {
namespace {

struct Kind {
  std::string name;
  std::unique_ptr<Codec> (*make)();
};

std::unique_ptr<Codec> trained(std::unique_ptr<Codec> codec) {
  return codec->train(text_pages(1000)).value();
}

const std::vector<Kind> kKinds{
    {"lz4", [] { return lz4(); }},
    {"lz4_trained", [] { return trained(lz4()); }},
    {"zstd1", [] { return zstd(1); }},
    {"zstd3", [] { return zstd(); }},
    {"zstd19", [] { return zstd(19); }},
    {"zstd_trained", [] { return trained(zstd()); }},
    {"shuffled2", [] { return shuffled_lz4(2).value(); }},
    {"shuffled8", [] { return shuffled_lz4(8).value(); }},
    {"shuffled100", [] { return shuffled_lz4(100).value(); }},
};

/// Memory that ends where a page that may not be touched begins.
class Fenced {
 public:
  explicit Fenced(std::size_t size)
      : memory_(own_memory(pagetrap::bytes(pages_for(size)) + page_size(), "fenced").value()),
        bytes_{memory_.range().end() - page_size() - size, size} {
    EXPECT_EQ(::mprotect(memory_.range().end() - page_size(), page_size(), PROT_NONE), 0);
  }
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  [[nodiscard]] std::span<std::byte> last(std::size_t size) const { return bytes_.last(size); }

 private:
  sys::Mapping memory_;
  std::span<std::byte> bytes_;
};

class Codecs : public testing::TestWithParam<Kind> {
 protected:
  std::size_t compress(std::span<const std::byte> page, std::span<std::byte> out) {
    return codec_->compress(page, out, scratch_);
  }
  bool expand(std::span<const std::byte> blob, std::span<std::byte> page) {
    return codec_->expand(blob, page, scratch_);
  }

  std::unique_ptr<Codec> codec_ = GetParam().make();
  sys::Mapping memory_ = own_memory(codec_->scratch_bytes(), "scratch").value();
  std::span<std::byte> scratch_{memory_.data(), codec_->scratch_bytes()};
  void SetUp() override { codec_->prepare(scratch_); }
};

INSTANTIATE_TEST_SUITE_P(All, Codecs, testing::ValuesIn(kKinds),
                         [](const auto& each) { return each.param.name; });

TEST_P(Codecs, GiveBackWhatTheyWereGiven) {
  for (const Sample& sample : samples(64)) {
    std::size_t total = 0;
    for (std::size_t i = 0; i < 64; ++i) {
      const auto page = page_at(sample.pages, i);
      Bytes out(page_size());
      const std::size_t length = compress(page, out);
      total += length == 0 ? page_size() : length;
      if (length == 0) continue;
      const Fenced blob(length);
      std::copy_n(out.begin(), length, blob.bytes().begin());
      const Fenced back(page_size());
      ASSERT_TRUE(expand(blob.bytes(), back.bytes())) << sample.name << " page " << i;
      ASSERT_TRUE(std::ranges::equal(back.bytes(), page)) << sample.name << " page " << i;
    }
    if (sample.name == "zeroes") {
      EXPECT_LT(total, 64 * page_size() / 50);
    }
    if (sample.name == "text" && !std::string_view(codec_->name()).starts_with("shuffled")) {
      EXPECT_LT(total, 64 * page_size() * 3 / 4) << "text was hardly compressed";
    }
  }
}

TEST_P(Codecs, GiveUpWhenThereIsNoRoom) {
  const Bytes text = text_pages(1);
  Bytes out(page_size());
  const std::size_t length = compress(text, out);
  ASSERT_GT(length, 0U);
  for (std::size_t room = 0; room < length; room += room + 100 < length ? 100 : 1) {
    const Fenced small(room + 1);
    EXPECT_EQ(compress(text, small.bytes().last(room)), 0U) << room;
  }
  EXPECT_EQ(compress(random_bytes(page_size(), 3), std::span(out).first(page_size() / 16 * 15)),
            0U);
}

TEST_P(Codecs, StayInBoundsWhateverTheyExpand) {
  std::mt19937 random(4);
  const Bytes text = text_pages(16);
  std::vector<Bytes> blobs;
  for (std::size_t i = 0; i < 16; ++i) {
    Bytes out(page_size());
    out.resize(compress(page_at(text, i), out));
    ASSERT_GT(out.size(), 0U);
    blobs.push_back(std::move(out));
  }
  const Fenced fenced(page_size());
  const Fenced page(page_size());
  std::size_t refused = 0;
  for (unsigned round = 0; round < 50'000; ++round) {
    // Cut, altered, replaced by noise.
    const Bytes& good = blobs[round % 16];
    const std::size_t length = round % 3 == 0 ? 1 + random() % good.size() : good.size();
    const std::span<std::byte> blob = fenced.last(length);
    std::copy_n(good.begin(), length, blob.begin());
    const std::size_t flips = round % 7 == 0 ? length : 1 + random() % 8;
    for (std::size_t i = 0; i < flips; ++i)
      blob[random() % length] = static_cast<std::byte>(random());
    refused += expand(blob, page.bytes()) ? 0U : 1U;
  }
  EXPECT_GT(refused, 8000U);
  EXPECT_FALSE(expand({}, page.bytes()));
}

TEST_P(Codecs, ContinueAfterTheirScratchWasAnothers) {
  const Bytes text = text_pages(2);
  Bytes out(page_size());
  const std::size_t length = compress(page_at(text, 0), out);
  const Bytes noise = random_bytes(scratch_.size(), 5);
  std::ranges::copy(noise, scratch_.begin());
  codec_->prepare(scratch_);
  Bytes back(page_size());
  ASSERT_TRUE(expand(std::span(out).first(length), back));
  EXPECT_TRUE(std::ranges::equal(back, page_at(text, 0)));
  EXPECT_EQ(compress(page_at(text, 0), out), length);
}

double bytes_of(const Codec& codec, const Bytes& pages) {
  const sys::Mapping memory = own_memory(codec.scratch_bytes(), "scratch").value();
  const std::span<std::byte> scratch(memory.data(), codec.scratch_bytes());
  codec.prepare(scratch);
  Bytes out(page_size());
  std::size_t total = 0;
  for (std::size_t i = 0; i < pages.size() / page_size(); ++i) {
    const std::size_t length = codec.compress(page_at(pages, i), out, scratch);
    total += length == 0 ? page_size() : length;
  }
  return static_cast<double>(total);
}

TEST(Training, MakesTextSmaller) {
  // Learnt from every fourth page, tried on the others.
  const Bytes all = text_pages(4000);
  Bytes learnt;
  Bytes others;
  for (std::size_t i = 0; i < 4000; ++i) {
    const auto page = page_at(all, i);
    Bytes& to = i % 4 == 0 ? learnt : others;
    to.insert(to.end(), page.begin(), page.end());
  }
  const auto plain = lz4();
  const double before = bytes_of(*plain, others);
  const auto with_dictionary = plain->train(learnt).value();
  EXPECT_STREQ(with_dictionary->name(), "lz4+dictionary");
  EXPECT_LT(bytes_of(*with_dictionary, others), 0.85 * before);
  EXPECT_LT(bytes_of(*zstd()->train(learnt).value(), others), 0.65 * before);
  // Again, from what has learnt already.
  EXPECT_LT(bytes_of(*with_dictionary->train(learnt).value(), others), 0.85 * before);
}

TEST(Training, SaysWhatItCannot) {
  EXPECT_EQ(lz4()->train({}).error().number, EINVAL);
  EXPECT_EQ(lz4()->train(text_pages(1)).error().number, EINVAL);
  EXPECT_EQ(zstd()->train(text_pages(2)).error().number, EINVAL);
  EXPECT_EQ(shuffled_lz4(8).value()->train(text_pages(100)).error().number, ENOTSUP);
}

TEST(Shuffling, MakesNumbersSmaller) {
  const Bytes roots = square_roots(256);
  EXPECT_LT(bytes_of(*shuffled_lz4(8).value(), roots), 0.65 * bytes_of(*lz4(), roots));
  EXPECT_FALSE(shuffled_lz4(1));
  EXPECT_FALSE(shuffled_lz4(257));
  EXPECT_EQ(shuffled_lz4(0).error().number, EINVAL);
}

}  // namespace
}  // namespace pagetrap::compress
