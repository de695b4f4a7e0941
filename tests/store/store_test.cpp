// A store as its users see it: transactions, roots, memory that is used again, readers.
#include <sys/wait.h>

#include <cstring>
#include <map>
#include <memory_resource>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "store/support.hpp"

namespace pagetrap::store {
namespace {

using Map = std::pmr::map<int, std::pmr::string>;
using Counters = std::array<std::uint64_t, 4096>;

class Stores : public ::testing::TestWithParam<Detect> {
 protected:
  Folder folder_;
  std::string path_ = folder_.file("a.store");
  StoreOptions options_ = small_store(GetParam());
};

TEST_P(Stores, ObjectsAreFoundAgain) {
  const void* address = nullptr;
  {
    OPEN_OR_SKIP(store, path_, options_);
    auto* const map = store.root<Map>("map").value();
    address = map;
    EXPECT_OK(store.transaction([&] {
      for (int i = 0; i < 1000; ++i)
        map->emplace(i, std::string(50, static_cast<char>('a' + i % 26)));
    }));
    EXPECT_OK(store.close());
  }
  OPEN_OR_SKIP(store, path_, options_);
  auto* const map = store.root<Map>("map").value();
  EXPECT_EQ(map, address);
  ASSERT_EQ(map->size(), 1000U);
  for (int i = 0; i < 1000; ++i)
    EXPECT_EQ(map->at(i), std::pmr::string(50, static_cast<char>('a' + i % 26)));
  EXPECT_EQ(store.statistics().recovered_commits, 0U);
}

TEST_P(Stores, AnExceptionUndoesEverything) {
  OPEN_OR_SKIP(store, path_, options_);
  auto* const map = store.root<Map>("map").value();
  EXPECT_OK(store.transaction([&] { map->emplace(1, "one"); }));
  const auto before = store.statistics();
  EXPECT_THROW(static_cast<void>(store.transaction([&] {
                 for (int i = 2; i < 2000; ++i)
                   map->emplace(i, "some longer text that is allocated on its own");
                 map->at(1) = "changed";
                 throw std::runtime_error("no");
               })),
               std::runtime_error);
  ASSERT_EQ(map->size(), 1U);
  EXPECT_EQ(map->at(1), "one");
  EXPECT_EQ(store.statistics().allocated_bytes, before.allocated_bytes);
  EXPECT_EQ(store.statistics().aborts, before.aborts + 1);
  EXPECT_OK(store.transaction([&] { map->emplace(2, "two"); }));
  EXPECT_EQ(map->size(), 2U);
}

TEST_P(Stores, ATransactionMayAbortItself) {
  OPEN_OR_SKIP(store, path_, options_);
  auto* const counters = store.root<Counters>("counters").value();
  const auto done = store.transaction([&](Transaction& transaction) {
    counters->fill(7);
    transaction.abort();
  });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().number, ECANCELED);
  for (const std::uint64_t counter : *counters) EXPECT_EQ(counter, 0U);
}

TEST_P(Stores, ATransactionInsideAnotherIsRefused) {
  OPEN_OR_SKIP(store, path_, options_);
  EXPECT_OK(store.transaction([&] {
    const auto inner = store.transaction([] {});
    ASSERT_FALSE(inner);
    EXPECT_EQ(inner.error().number, EDEADLK);
  }));
}

TEST_P(Stores, ARootOfAnotherTypeIsRefusedAndCanBeMigrated) {
  {
    OPEN_OR_SKIP(store, path_, options_);
    auto* const numbers = store.root<std::pmr::vector<int>>("numbers").value();
    EXPECT_OK(store.transaction([&] { numbers->assign({1, 2, 3}); }));
  }
  OPEN_OR_SKIP(store, path_, options_);
  using Wide = std::pmr::vector<long>;
  const auto wrong = store.root<Wide>("numbers");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().number, EPROTOTYPE);
  const auto migrated =
      store.migrate<std::pmr::vector<int>, Wide>("numbers", [&](const std::pmr::vector<int>& old) {
        return store.allocator().new_object<Wide>(old.begin(), old.end());
      });
  ASSERT_TRUE(migrated) << describe(migrated.error());
  EXPECT_EQ(**migrated, (Wide{1, 2, 3}));
  EXPECT_EQ(store.root<Wide>("numbers").value(), *migrated);
}

TEST_P(Stores, ManyRoots) {
  OPEN_OR_SKIP(store, path_, options_);
  EXPECT_OK(store.transaction([&] {
    for (int i = 0; i < 3000; ++i) *store.root<int>("root " + std::to_string(i)).value() = i;
  }));
  EXPECT_EQ(store.roots().size(), 3000U);
  EXPECT_OK(store.erase<int>("root 17"));
  EXPECT_EQ(store.find<int>("root 17").value(), nullptr);
  EXPECT_EQ(*store.find<int>("root 18").value(), 18);
}

TEST_P(Stores, FreedMemoryIsUsedAgainAfterARestart) {
  std::size_t used = 0;
  {
    OPEN_OR_SKIP(store, path_, options_);
    auto* const map = store.root<Map>("map").value();
    for (int part = 0; part < 10; ++part)
      EXPECT_OK(store.transaction([&] {
        for (int i = 0; i < 200; ++i) map->emplace(part * 200 + i, std::string(300, 'x'));
      }));
    used = store.statistics().used_bytes;
    EXPECT_OK(store.transaction([&] { map->clear(); }));
  }
  OPEN_OR_SKIP(store, path_, options_);
  auto* const map = store.root<Map>("map").value();
  for (int part = 0; part < 10; ++part)
    EXPECT_OK(store.transaction([&] {
      for (int i = 0; i < 200; ++i) map->emplace(part * 200 + i, std::string(300, 'y'));
    }));
  EXPECT_EQ(store.statistics().used_bytes, used);
}

// Blocks of many sizes, large ones among them, in random order: none overlaps another, and when all
// are given back the free pages have become few runs again.
TEST_P(Stores, TheHeapGivesOutWhatIsFree) {
  OPEN_OR_SKIP(store, path_, options_);
  struct Block {
    std::byte* at;
    std::size_t size;
    unsigned char mark;
  };
  std::vector<Block> blocks;
  std::uint64_t random = 12345;
  const auto next = [&] {
    return random = random * 6364136223846793005U + 1442695040888963407U, random >> 33;
  };
  std::size_t used = 0;
  for (int lap = 0; lap < 3; ++lap) {
    for (int i = 0; i < 20; ++i) {
      EXPECT_OK(store.transaction([&] {
        for (int j = 0; j < 12; ++j) {
          const std::size_t size = next() % 8 == 0 ? next() % 20'000 + 1 : next() % 500 + 1;
          auto* const at = static_cast<std::byte*>(store.resource()->allocate(size, 16));
          const auto mark = static_cast<unsigned char>(next());
          std::memset(at, mark, size);
          blocks.push_back({at, size, mark});
          if (next() % 3 == 0) {
            const std::size_t victim = next() % blocks.size();
            store.resource()->deallocate(blocks[victim].at, blocks[victim].size, 16);
            blocks[victim] = blocks.back();
            blocks.pop_back();
          }
        }
      }));
    }
    for (const Block& block : blocks)
      for (std::size_t i = 0; i < block.size; ++i)
        ASSERT_EQ(static_cast<unsigned char>(block.at[i]), block.mark);
    EXPECT_OK(store.transaction([&] {
      for (const Block& block : blocks) store.resource()->deallocate(block.at, block.size, 16);
    }));
    blocks.clear();
    if (lap == 0) used = store.statistics().used_bytes;
  }
  EXPECT_LE(store.statistics().used_bytes, used + used / 2);
}

TEST_P(Stores, ASecondWriterIsRefused) {
  OPEN_OR_SKIP(store, path_, options_);
  EXPECT_OK(store.transaction([] {}));
  const auto second = Store::open(path_, options_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().number, EBUSY);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto third = Store::open(path_, options_);
    ::_exit(!third && third.error().number == EBUSY ? 0 : 1);
  }
  int status = 1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_P(Stores, SeveralStoresAtOnce) {
  OPEN_OR_SKIP(first, path_, options_);
  OPEN_OR_SKIP(second, folder_.file("b.store"), options_);
  auto* const one = first.root<Counters>("counters").value();
  auto* const two = second.root<Counters>("counters").value();
  EXPECT_OK(first.transaction([&] { one->fill(1); }));
  EXPECT_OK(second.transaction([&] { two->fill(2); }));
  EXPECT_EQ((*one)[5], 1U);
  EXPECT_EQ((*two)[5], 2U);
}

TEST_P(Stores, AChildHasNoStore) {
  OPEN_OR_SKIP(store, path_, options_);
  auto* const counters = store.root<Counters>("counters").value();
  const pid_t child = ::fork();
  if (child == 0) {
    const auto done = store.transaction([] {});
    ::_exit(!done && done.error().number == EBADF ? 0 : 1);
  }
  int status = 1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_OK(store.transaction([&] { counters->fill(3); }));
}

TEST_P(Stores, AllocationOutsideATransactionIsRefused) {
  OPEN_OR_SKIP(store, path_, options_);
  EXPECT_THROW(static_cast<void>(store.resource()->allocate(8)), SystemError);
}

TEST_P(Stores, GrowsBeyondTheFileAndTheLog) {
  std::size_t sum = 0;
  {
    OPEN_OR_SKIP(store, path_, options_);
    auto* const lists = store.root<std::pmr::vector<std::pmr::vector<std::uint64_t>>>("l").value();
    for (int i = 0; i < 300; ++i)
      EXPECT_OK(store.transaction([&] {
        auto& list = lists->emplace_back();
        for (std::size_t j = 0; j < 8000; ++j) list.push_back(j * static_cast<std::size_t>(i));
      }));
    for (const auto& list : *lists)
      for (const std::uint64_t value : list) sum += value;
    EXPECT_GT(store.statistics().checkpoints, 3U);
    EXPECT_GT(store.statistics().used_bytes, 15_MiB);
  }
  OPEN_OR_SKIP(store, path_, options_);
  auto* const lists = store.root<std::pmr::vector<std::pmr::vector<std::uint64_t>>>("l").value();
  ASSERT_EQ(lists->size(), 300U);
  for (const auto& list : *lists)
    for (const std::uint64_t value : list) sum -= value;
  EXPECT_EQ(sum, 0U);
}

TEST_P(Stores, ATransactionThatIsTooLargeIsUndone) {
  OPEN_OR_SKIP(store, path_, options_);
  auto* const bytes = store.root<std::pmr::vector<std::uint64_t>>("bytes").value();
  const auto done = store.transaction([&] { bytes->resize(1'000'000, 7); });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().number, EFBIG);
  EXPECT_TRUE(bytes->empty());
  EXPECT_OK(store.transaction([&] { bytes->resize(10, 7); }));
}

TEST_P(Stores, CommitsOfThreadsAreAllThere) {
  {
    OPEN_OR_SKIP(store, path_, options_);
    auto* const counters = store.root<Counters>("counters").value();
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        for (std::size_t i = 0; i < 200; ++i)
          EXPECT_OK(store.transaction([&] {
            (*counters)[0] += 1;
            (*counters)[(t + 1) * 700 + i] = i + 1;
          }));
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_LE(store.statistics().log_flushes, store.statistics().commits);
  }
  OPEN_OR_SKIP(store, path_, options_);
  auto* const counters = store.root<Counters>("counters").value();
  EXPECT_EQ((*counters)[0], 800U);
  for (std::size_t t = 0; t < 4; ++t)
    for (std::size_t i = 0; i < 200; ++i) EXPECT_EQ((*counters)[(t + 1) * 700 + i], i + 1);
}

TEST_P(Stores, ReadersSeeCommitsWhole) {
  OPEN_OR_SKIP(store, path_, options_);
  auto* const counters = store.root<Counters>("counters").value();
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> reads{0};
  std::thread reader([&] {
    while (!stop.load()) {
      const auto guard = store.read_lock();
      for (const std::uint64_t counter : *counters) ASSERT_EQ(counter, (*counters)[0]);
      reads.fetch_add(1);
    }
  });
  for (std::uint64_t i = 1; i <= 100 || reads.load() < 10; ++i)
    EXPECT_OK(store.transaction([&] { counters->fill(i); }));
  stop.store(true);
  reader.join();
}

TEST_P(Stores, WaitingForAPositionMakesItDurable) {
  OPEN_OR_SKIP(store, path_, options_);
  auto* const counters = store.root<Counters>("counters").value();
  Position last;
  for (std::uint64_t i = 1; i <= 50; ++i) {
    const auto position = store.commit_async([&] { (*counters)[i] = i; });
    ASSERT_TRUE(position) << describe(position.error());
    EXPECT_GT(*position, last);
    last = *position;
  }
  const auto before = store.statistics().log_flushes;
  EXPECT_OK(store.wait(last));
  EXPECT_EQ(store.statistics().log_flushes, before + 1);
}

TEST_P(Stores, OneFlushForACommit) {
  OPEN_OR_SKIP(store, path_, options_);
  auto* const counters = store.root<Counters>("counters").value();
  const auto before = store.statistics();
  for (std::uint64_t i = 1; i <= 100; ++i)
    EXPECT_OK(store.transaction([&] { (*counters)[i * 37 % 4096] = i; }));
  const auto after = store.statistics();
  EXPECT_EQ(after.log_flushes - before.log_flushes, 100U);
  EXPECT_EQ(after.log_bytes - before.log_bytes, 100U * 512);
}

// What a transaction changes back is no change.
TEST_P(Stores, NothingChangedIsNothingWritten) {
  OPEN_OR_SKIP(store, path_, options_);
  auto* const counters = store.root<Counters>("counters").value();
  const auto before = store.statistics().log_bytes;
  EXPECT_OK(store.transaction([&] {
    (*counters)[9] = 1;
    (*counters)[9] = 0;
  }));
  EXPECT_EQ(store.statistics().log_bytes, before);
}

INSTANTIATE_TEST_SUITE_P(Detectors, Stores, ::testing::ValuesIn(kDetectors), detect_name);

}  // namespace
}  // namespace pagetrap::store
