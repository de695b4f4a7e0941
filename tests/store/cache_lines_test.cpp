// A store whose commits are cache lines written back: here on an ordinary file, where the code is
// the same, and only a power failure would tell the difference.
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <filesystem>
#include <vector>

#include "store/disk/mapped_disk.hpp"
#include "store/support.hpp"
#include "sys/cache_lines.hpp"

namespace pagetrap::store {
namespace {

using Numbers = std::pmr::deque<std::uint64_t>;

class CacheLines : public ::testing::TestWithParam<Detect> {
 protected:
  void SetUp() override {
    if (sys::cache_line_instruction() == nullptr) GTEST_SKIP() << "no instruction for it";
    options_.persistence = Persistence::cache_lines;
  }
  Folder folder_;
  std::string path_ = folder_.file("a.store");
  StoreOptions options_ = small_store(GetParam());
};

TEST_P(CacheLines, CommitsAreFoundAgain) {
  for (std::uint64_t round = 0; round < 4; ++round) {
    // The other way in between: the file is the same.
    options_.persistence = round == 2 ? Persistence::system_calls : Persistence::cache_lines;
    options_.verify_all = true;
    OPEN_OR_SKIP(store, path_, options_);
    const std::string by = store.statistics().durable_by;
    EXPECT_EQ(by == "system calls", round == 2) << by;
    Numbers& all = *store.root<Numbers>("all").value();
    ASSERT_EQ(all.size(), round * 40'000);
    for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], i);
    // Grows beyond what was mapped.
    for (int i = 0; i < 40; ++i)
      ASSERT_TRUE(store.transaction([&] {
        for (int k = 0; k < 1000; ++k) all.push_back(all.size());
      }));
    if (round % 2 == 0) EXPECT_OK(store.checkpoint());
  }
}

TEST_P(CacheLines, ACommitSurvivesAKill) {
  const pid_t child = ::fork();
  if (child == 0) {
    auto store = Store::open(path_, options_);
    if (!store) ::_exit(store.error().number == ENOTSUP ? 3 : 1);
    Numbers& all = *store->root<Numbers>("all").value();
    for (std::uint64_t i = 0; i < 5000; ++i)
      if (!store->transaction([&] { all.push_back(i); })) ::_exit(2);
    ::_exit(0);
  }
  int status = 1;
  ::waitpid(child, &status, 0);
  if (WEXITSTATUS(status) == 3) GTEST_SKIP() << "not to be had here";
  ASSERT_EQ(status, 0);
  OPEN_OR_SKIP(store, path_, options_);
  const Numbers& all = *store.root<Numbers>("all").value();
  ASSERT_EQ(all.size(), 5000U);
  for (std::uint64_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], i);
}

// Not the signal that a mapping has for it.
TEST_P(CacheLines, AFileThatIsCutShortIsAnError) {
  OPEN_OR_SKIP(store, path_, options_);
  Numbers& all = *store.root<Numbers>("all").value();
  EXPECT_OK(store.transaction([&] { all.resize(1000, 1); }));
  std::filesystem::resize_file(path_, 1 << 16);
  const auto done = store.transaction([&] { all[3] = 2; });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().number, EIO);
  EXPECT_EQ(all[3], 1U);
}

INSTANTIATE_TEST_SUITE_P(Detectors, CacheLines, ::testing::ValuesIn(kDetectors), detect_name);

TEST(MappedDisk, WritesWhatIsReadThroughTheFile) {
  if (sys::cache_line_instruction() == nullptr) GTEST_SKIP() << "no instruction for it";
  const Folder folder;
  auto file = FileDisk::open(folder.file("a"), FileUse::create).value();
  ASSERT_FALSE(failed(file->extend(1 << 16)));
  auto disk = MappedDisk::create(file, 1 << 20, false).value();
  std::vector<std::byte> bytes(12'345, std::byte{7});
  ASSERT_FALSE(failed(disk->write(bytes, 4096)));
  std::vector<std::byte> found(bytes.size());
  ASSERT_FALSE(failed(disk->read(found, 4096)));
  EXPECT_EQ(found, bytes);
  EXPECT_EQ(disk->write(bytes, (1 << 16) - 100).number, EIO);
  ASSERT_FALSE(failed(disk->extend(1 << 18)));
  ASSERT_FALSE(failed(disk->write(bytes, (1 << 18) - bytes.size())));
  ASSERT_FALSE(failed(disk->read(found, (1 << 18) - bytes.size())));
  EXPECT_EQ(found, bytes);
  ASSERT_FALSE(failed(disk->extend(1 << 21)));
  EXPECT_EQ(disk->write(bytes, 1 << 20).number, EFBIG);
}

// An ordinary file is not taken for what it is not.
TEST(MappedDisk, IsNotChosenForAnOrdinaryFile) {
  const Folder folder;
  const Store store = Store::open(folder.file("a.store"), small_store()).value();
  if (std::strcmp(store.statistics().durable_by, "system calls") != 0)
    GTEST_SKIP() << "the folder for temporary files is in persistent memory";
}

}  // namespace
}  // namespace pagetrap::store
