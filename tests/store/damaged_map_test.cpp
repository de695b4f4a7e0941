// A pointer map with other contents than it should have: damaged on the medium, or wrong with right
// checksums. An error each time, before any pointer is changed by it.
#include <fstream>

#include <pagetrap/store/inspect.hpp>

#include "store/format/checksum.hpp"
#include "store/format/layout.hpp"
#include "store/typed.hpp"

namespace pagetrap::store {
namespace {

using namespace typed;

class DamagedMap : public ::testing::Test {
 protected:
  void SetUp() override {
    {
      auto store = Store::open(path_, small_store()).value();
      auto& world = *store.root<World>("world").value();
      for (std::uint64_t i = 1; i <= 100; ++i)
        store.transaction([&] { take_step(world, 1, i); }).value();
      EXPECT_OK(store.close());
    }
    file_.open(path_, std::ios::in | std::ios::out | std::ios::binary);
    block_ = read<Superblock>(0);
    header_ = read<HeapHeader>(place(0));
    ASSERT_NE(header_.map_directory, 0U);
    leaf_ = read<PageNumber>(place(header_.map_directory));
    table_ = read<PageNumber>(place(leaf_));
  }
  [[nodiscard]] std::uint64_t place(PageNumber page) const {
    return offset_of_page(block_.data_offset, page);
  }
  template <class T>
  T read(std::uint64_t at) {
    T value{};
    file_.seekg(static_cast<std::streamoff>(at));
    file_.read(reinterpret_cast<char*>(&value), sizeof value);
    return value;
  }
  template <class T>
  void write(std::uint64_t at, const T& value) {
    file_.seekp(static_cast<std::streamoff>(at));
    file_.write(reinterpret_cast<const char*>(&value), sizeof value);
    file_.flush();
  }
  /// So that the page's checksum agrees with what it has now.
  void seal(PageNumber page) {
    const auto contents = read<std::array<std::byte, kPageBytes>>(place(page));
    write(offset_of_sums(block_.data_offset, page / kGroupPages) + page % kGroupPages * 8,
          page_checksum(contents, page, block_.seed));
  }
  /// Opened elsewhere, and all of it looked at.
  Outcome look() {
    const Occupied occupied(block_.base);
    StoreOptions options = small_store();
    options.verify_all = true;
    const auto store = Store::open(path_, options);
    return store ? kDone : Outcome(store.error());
  }
  Error check() {
    auto file = StoreFile::open(path_);
    if (!file) return file.error();
    const auto verified = file->verify();
    return verified ? kDone : verified.error();
  }
  Folder folder_;
  std::string path_ = folder_.file("a.store");
  std::fstream file_;
  Superblock block_;
  HeapHeader header_;
  PageNumber leaf_ = 0;
  PageNumber table_ = 0;
};

TEST_F(DamagedMap, IsFineAsItIs) {
  EXPECT_EQ(look().number, 0);
  EXPECT_EQ(check().number, 0);
}

TEST_F(DamagedMap, AFlippedBitIsFoundByTheChecksum) {
  for (const PageNumber page : {header_.map_directory, leaf_, table_}) {
    const std::uint64_t at = place(page) + 72;
    const auto before = read<std::uint8_t>(at);
    write(at, static_cast<std::uint8_t>(before ^ 4));
    EXPECT_EQ(look().number, EBADMSG) << page;
    EXPECT_EQ(check().number, EBADMSG) << page;
    write(at, before);
  }
  EXPECT_EQ(look().number, 0);
}

TEST_F(DamagedMap, NumbersThatMakeNoSense) {
  for (const PageNumber page : {header_.map_directory, leaf_})
    for (const PageNumber wrong : {PageNumber{0}, PageNumber{1}, ~PageNumber{0},
                                   PageNumber{256_MiB / kPageBytes}, header_.map_directory}) {
      const auto before = read<PageNumber>(place(page));
      write(place(page), wrong);
      seal(page);
      EXPECT_EQ(look().number, EBADMSG) << page << " " << wrong;
      write(place(page), before);
      seal(page);
    }
  EXPECT_EQ(look().number, 0);
}

TEST_F(DamagedMap, AHeaderThatMakesNoSense) {
  for (const PageNumber wrong : {PageNumber{1}, ~PageNumber{0}}) {
    HeapHeader header = header_;
    header.map_directory = wrong;
    write(place(0), header);
    seal(0);
    seal(1);
    EXPECT_EQ(look().number, EBADMSG) << wrong;
    header = header_;
    header.map_covered = wrong == 1 ? 0 : wrong;
    write(place(0), header);
    seal(0);
    seal(1);
    EXPECT_EQ(check().number, EBADMSG) << wrong;
  }
}

TEST_F(DamagedMap, ALinkThatIsNotInIt) {
  FreeBlock* link = nullptr;
  for (const HeapHeader::Class& blocks : header_.classes)
    if (blocks.free != nullptr) link = blocks.free;
  ASSERT_NE(link, nullptr);
  const std::uint64_t word = (reinterpret_cast<std::uintptr_t>(link) - block_.base) / 8;
  const auto chunk = static_cast<PageNumber>(word / kWordsOfPage / kMappedPages);
  const auto table = read<PageNumber>(place(leaf_) + chunk * sizeof(PageNumber));
  const std::uint64_t at = place(table) + word % (kWordsOfPage * kMappedPages) / 64 * 8;
  write(at, read<std::uint64_t>(at) & ~(std::uint64_t{1} << word % 64));
  seal(table);
  EXPECT_EQ(check().number, EBADMSG);
}

}  // namespace
}  // namespace pagetrap::store
