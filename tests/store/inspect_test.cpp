// A store's file looked at without being opened, and written anew.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>

#include <pagetrap/store/inspect.hpp>

#include "store/support.hpp"

namespace pagetrap::store {
namespace {

using Map = std::pmr::map<int, std::pmr::string>;

class Inspection : public ::testing::Test {
 protected:
  void make(int entries) {
    Store store = Store::open(path_, small_store()).value();
    Map& map = *store.root<Map>("map").value();
    store.root<std::uint64_t>("number").value();
    for (int i = 0; i < entries; ++i)
      store.transaction([&] { map[i] = std::string(1000, 'x'); }).value();
  }
  void erase_most(int entries) {
    Store store = Store::open(path_, small_store()).value();
    Map& map = *store.root<Map>("map").value();
    auto& big = *store.root<std::pmr::vector<std::uint64_t>>("big").value();
    store.transaction([&] { big.resize(40'000, 1); }).value();
    store
        .transaction([&] {
          map.erase(map.begin(), std::next(map.begin(), entries));
          big.clear();
          big.shrink_to_fit();
        })
        .value();
  }
  Folder folder_;
  std::string path_ = folder_.file("a.store");
};

TEST_F(Inspection, TellsWhatThereIs) {
  make(100);
  auto file = StoreFile::open(path_);
  ASSERT_TRUE(file) << describe(file.error());
  EXPECT_TRUE(file->info().clean);
  EXPECT_EQ(file->info().intact_superblocks, 2U);
  EXPECT_EQ(file->info().commits, 103U);  // the heap's, two roots, the entries
  ASSERT_EQ(file->info().roots.size(), 2U);
  EXPECT_EQ(file->info().roots[0].name, "map");
  EXPECT_EQ(file->info().roots[0].size_bytes, sizeof(Map));
  EXPECT_EQ(file->info().roots[1].name, "number");
  EXPECT_OK(file->verify());
  std::uint64_t number = 1;
  EXPECT_OK(file->read(file->info().roots[1].address,
                       std::as_writable_bytes(std::span(&number, std::size_t{1}))));
  EXPECT_EQ(number, 0U);
}

TEST_F(Inspection, SeesTheLastCommitOfAStoreThatIsOpen) {
  Store store = Store::open(path_, small_store()).value();
  Map& map = *store.root<Map>("map").value();
  store.transaction([&] { map[1] = "one"; }).value();
  auto file = StoreFile::open(path_);
  ASSERT_TRUE(file) << describe(file.error());
  EXPECT_TRUE(file->info().in_use);
  EXPECT_EQ(file->info().commits, 3U);
  for (int i = 0; i < 2000; ++i)
    store.transaction([&] { map[i] = std::string(1000, 'x'); }).value();
  EXPECT_OK(file->verify());
  std::vector<std::byte> bytes(file->info().roots.at(0).size_bytes);
  EXPECT_OK(file->read(file->info().roots.at(0).address, bytes));
  EXPECT_EQ(file->info().commits, 3U);
  const auto compacted = compact(path_);
  ASSERT_FALSE(compacted);
  EXPECT_EQ(compacted.error().number, EBUSY);
}

TEST_F(Inspection, SeesTheLog) {
  const pid_t child = ::fork();
  if (child == 0) {
    make(10);
    Store store = Store::open(path_, small_store()).value();
    Map& map = *store.root<Map>("map").value();
    store.transaction([&] { map[5] = "new"; }).value();
    ::_exit(0);
  }
  int status = 1;
  ::waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  auto file = StoreFile::open(path_);
  ASSERT_TRUE(file) << describe(file.error());
  EXPECT_FALSE(file->info().clean);
  EXPECT_EQ(file->info().log_records, 1U);
  EXPECT_OK(file->verify());
}

TEST_F(Inspection, NamesThePlaceOfADamage) {
  make(100);
  std::uint64_t place = 0;
  {
    const auto file = StoreFile::open(path_);
    const StoreInfo& info = file->info();
    const std::uint64_t page = (info.roots[0].address - info.base) / 4096;
    ASSERT_LT(page, 512U);
    const std::uint64_t data = 8192 + 16384 + 1020 * 4096 + info.log_bytes;
    place = data + 4096 + page * 4096 + 77;
  }
  const int file = ::open(path_.c_str(), O_RDWR | O_CLOEXEC);
  unsigned char byte = 0;
  ASSERT_EQ(::pread(file, &byte, 1, static_cast<off_t>(place)), 1);
  byte ^= 1;
  ASSERT_EQ(::pwrite(file, &byte, 1, static_cast<off_t>(place)), 1);
  ::close(file);
  auto damaged = StoreFile::open(path_);
  ASSERT_TRUE(damaged) << describe(damaged.error());
  const auto verified = damaged->verify();
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().number, EBADMSG);
  EXPECT_EQ(verified.error().position, static_cast<std::int64_t>(place / 4096 * 4096));
  { const StoreFile closed = std::move(*damaged); }
  StoreOptions options = small_store();
  options.verify_all = true;
  const auto store = Store::open(path_, options);
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().number, EBADMSG);
}

TEST_F(Inspection, CompactingKeepsEverythingAndItsAddress) {
  make(3000);
  erase_most(2900);
  const auto before = StoreFile::open(path_)->info();
  const auto after = compact(path_);
  ASSERT_TRUE(after) << describe(after.error());
  EXPECT_LE(after->file_bytes, before.file_bytes);
  EXPECT_EQ(after->base, before.base);
  EXPECT_EQ(after->commits, before.commits);
  EXPECT_EQ(after->log_records, 0U);
  EXPECT_TRUE(StoreFile::open(path_)->verify());
  StoreOptions options = small_store();
  options.verify_all = true;
  Store store = Store::open(path_, options).value();
  Map& map = *store.root<Map>("map").value();
  ASSERT_EQ(map.size(), 100U);
  for (const auto& [key, text] : map) {
    EXPECT_GE(key, 2900);
    EXPECT_EQ(text, std::pmr::string(1000, 'x'));
  }
  for (int i = 0; i < 500; ++i)
    EXPECT_OK(store.transaction([&] { map[i] = std::string(1000, 'y'); }));
}

}  // namespace
}  // namespace pagetrap::store
