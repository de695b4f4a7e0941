#include <pagetrap/guard/heap.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <pagetrap/core/units.hpp>
#include <pagetrap/guard/problem.hpp>

namespace pagetrap::guard {
namespace {

struct Kind {
  const char* name;
  Mechanism mechanism;
  Strength strength = Strength::page;
  Revocation revocation = Revocation::at_once;
  std::size_t hot_bytes = 0;
};

class Heaps : public testing::TestWithParam<Kind> {
 protected:
  static Heap make(HeapOptions options = {}) {
    options.mechanism = GetParam().mechanism;
    options.strength = GetParam().strength;
    options.revocation = GetParam().revocation;
    options.hot_bytes = GetParam().hot_bytes;
    return Heap::create(options).value();
  }
};

void fill(void* block, std::size_t size, unsigned seed) {
  for (std::size_t i = 0; i < size; ++i)
    static_cast<unsigned char*>(block)[i] = static_cast<unsigned char>(seed + i);
}
bool is_filled(const void* block, std::size_t size, unsigned seed) {
  for (std::size_t i = 0; i < size; ++i)
    if (static_cast<const unsigned char*>(block)[i] != static_cast<unsigned char>(seed + i))
      return false;
  return true;
}

// Any sequence of calls, against a model that remembers what each block must hold.
TEST_P(Heaps, AgreeWithAModel) {
  for (const Side side : {Side::right, Side::left, Side::random}) {
    HeapOptions options;
    options.side = side;
    Heap heap = make(options);
    struct Block {
      std::size_t size;
      unsigned seed;
    };
    std::map<void*, Block> model;
    std::mt19937 random(7);
    const auto size_of = [&]() -> std::size_t {
      switch (random() % 8) {
        case 0:
          return random() % 3;
        case 1:
          return 4000 + random() % 200;
        case 2:
          return random() % 40'000;
        case 3:
          return random() % 100 == 0 ? random() % 4'000'000 : random() % 100;
        default:
          return random() % 300;
      }
    };
    for (int step = 0; step < 4000; ++step) {
      const bool full = model.size() > 300;
      if (random() % 2 == 0 && !full) {
        const std::size_t size = size_of();
        const std::size_t alignment = std::size_t{1} << (random() % 5 == 0 ? random() % 14 : 0);
        void* const block = heap.allocate(size, alignment);
        ASSERT_NE(block, nullptr);
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0U);
        ASSERT_FALSE(model.contains(block));
        ASSERT_EQ(heap.usable_size(block), size);
        model[block] = {size, static_cast<unsigned>(step)};
        fill(block, size, static_cast<unsigned>(step));
      } else if (random() % 5 == 0 && !full) {
        const std::size_t size = size_of();
        void* const block = heap.allocate_zeroed(size);
        ASSERT_NE(block, nullptr);
        ASSERT_EQ(std::string(static_cast<char*>(block), size), std::string(size, '\0'));
        model[block] = {size, static_cast<unsigned>(step)};
        fill(block, size, static_cast<unsigned>(step));
      } else if (!model.empty()) {
        auto chosen = model.begin();
        std::advance(chosen, static_cast<long>(random() % model.size()));
        const auto [block, known] = *chosen;
        ASSERT_TRUE(is_filled(block, known.size, known.seed));
        model.erase(chosen);
        if (random() % 3 != 0) {
          heap.release(block);
          continue;
        }
        const std::size_t size = size_of() + 1;
        void* const moved = heap.reallocate(block, size);
        ASSERT_NE(moved, nullptr);
        ASSERT_NE(moved, block);
        ASSERT_TRUE(is_filled(moved, std::min(size, known.size), known.seed));
        fill(moved, size, known.seed);
        model[moved] = {size, known.seed};
      }
    }
    EXPECT_EQ(heap.statistics().live_objects, model.size());
    for (const auto& [block, known] : model) heap.release(block);
    EXPECT_EQ(heap.statistics().live_objects, 0U);
    EXPECT_EQ(reports(), 0U);
  }
}

TEST_P(Heaps, ThreadsAllocateAndFreeEachOthersBlocks) {
  Heap heap = make();
  constexpr int kThreads = 4;
  std::vector<std::atomic<char*>> exchange(64);
  std::vector<std::thread> threads;
  for (int number = 0; number < kThreads; ++number) {
    threads.emplace_back([&, number] {
      std::mt19937 random(static_cast<unsigned>(number));
      for (int step = 0; step < 10'000; ++step) {
        const std::size_t size = 8 + random() % 200;
        auto* const block = static_cast<char*>(heap.allocate(size));
        std::memset(block, static_cast<int>(size), size);
        char* const other = exchange[random() % exchange.size()].exchange(block);
        if (other == nullptr) continue;
        const std::size_t whole = heap.usable_size(other);
        if (other[0] != static_cast<char>(whole) || other[whole - 1] != static_cast<char>(whole))
          std::abort();
        heap.release(other);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (auto& left : exchange) heap.release(left.load());
  EXPECT_EQ(heap.statistics().live_objects, 0U);
}

TEST_P(Heaps, ThreadsThatComeAndGo) {
  Heap heap = make();
  for (int i = 0; i < 200; ++i) std::thread([&] { heap.release(heap.allocate(100)); }).join();
  EXPECT_EQ(heap.statistics().live_objects, 0U);
}

TEST_P(Heaps, ServeContainers) {
  Heap heap = make();
  {
    std::pmr::map<int, std::pmr::string> map(heap.resource());
    for (int i = 0; i < 500; ++i) map[i] = std::string(static_cast<std::size_t>(i), 'x');
    EXPECT_EQ(map[499].size(), 499U);
  }
  EXPECT_EQ(heap.statistics().live_objects, 0U);
}

TEST_P(Heaps, AnEmptyBlockIsItsOwnAndCannotBeRead) {
  Heap heap = make();
  auto* const first = static_cast<volatile char*>(heap.allocate(0));
  void* const second = heap.allocate(0);
  EXPECT_NE(first, second);
  EXPECT_EXIT(static_cast<void>(*first), testing::ExitedWithCode(66),
              "1 byte after a 0-byte block");
  heap.release(const_cast<char*>(first));
  heap.release(second);
}

// Its own page is the one before it, which must not be another slot's.
TEST_P(Heaps, AnEmptyBlockMayBeAlignedToMoreThanAPage) {
  Heap heap = make();
  for (int i = 0; i < 300; ++i) {
    void* const block = heap.allocate(0, 16384);
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(block) % 16384, 0U);
    void* const other = heap.allocate(16384, 16384);
    std::memset(other, 1, 16384);
    heap.release(block);
    heap.release(other);
  }
}

TEST_P(Heaps, AChildHasItsOwnCopy) {
  Heap heap = make();
  auto* const shared = static_cast<char*>(heap.allocate(100));
  std::memset(shared, 'p', 100);
  const pid_t child = fork();
  if (child == 0) {
    std::memset(shared, 'c', 100);
    std::vector<void*> more;
    for (int i = 0; i < 2000; ++i) more.push_back(heap.allocate(64));
    for (void* const block : more) heap.release(block);
    heap.release(shared);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(std::string(shared, 100), std::string(100, 'p'));
  heap.release(shared);
}

class HeapsDeathTest : public Heaps {};

TEST_P(HeapsDeathTest, AReportTellsWhoWhereAndWhat) {
  Heap heap = make();
  auto* const block = static_cast<char*>(heap.allocate(21));
  EXPECT_EXIT(*static_cast<volatile char*>(block + 23) = 1, testing::ExitedWithCode(66),
              "heap overflow: write of 1 byte at 0x[0-9a-f]+, 3 bytes after a 21-byte block\n"
              "  by thread [0-9]+ .*\n(    #.*\n)+  the block .* was allocated by malloc");
  EXPECT_EXIT(
      {
        heap.release(block);
        heap.release(block);
      },
      testing::ExitedWithCode(66), "double free: free\\(\\)");
  EXPECT_EXIT(heap.release(block + 1), testing::ExitedWithCode(66), "invalid free: .*1 byte into");
  int local = 0;
  EXPECT_EXIT(heap.release(&local), testing::ExitedWithCode(66), "invalid free: .*near no block");
  EXPECT_EXIT(heap.release(block, Family::new_single), testing::ExitedWithCode(66),
              "wrong function to free a block: operator delete.*which malloc allocated");
  heap.release(block);
}

TEST_P(HeapsDeathTest, TheFallbackServesWhatTheHeapCannot) {
  HeapOptions options;
  options.reservation_bytes = 1_GiB;
  options.fallback.allocate = [](std::size_t, std::size_t size) { return std::malloc(size); };
  options.fallback.release = [](void* block) { std::free(block); };
  options.fallback.usable_size = [](void*) { return std::size_t{0}; };
  Heap heap = make(options);
  void* const block = heap.allocate(100_MiB);
  ASSERT_NE(block, nullptr);
  EXPECT_FALSE(heap.owns(block));
  heap.release(block);
  EXPECT_EQ(heap.statistics().fallback_allocations, 1U);
}

// A reservation of 1 GiB has 32 768 slots of one page.
TEST_P(Heaps, DeadAddressesAreUsedAgainWhenAllHaveBeen) {
  HeapOptions options;
  options.reservation_bytes = 1_GiB;
  Heap heap = make(options);
  auto* const survivor = static_cast<char*>(heap.allocate(10));
  std::strcpy(survivor, "still it");
  for (int i = 0; i < 100'000; ++i) {
    void* const block = heap.allocate(50);
    ASSERT_NE(block, nullptr);
    std::memset(block, 1, 50);
    heap.release(block);
  }
  EXPECT_STREQ(survivor, "still it");
  heap.release(survivor);
}

[[noreturn]] void allocate_within(std::size_t addresses) {
  const rlimit narrow{addresses, addresses};
  if (setrlimit(RLIMIT_AS, &narrow) != 0) std::_Exit(1);
  auto heap = Heap::create();
  void* const block = heap ? heap->allocate(100) : nullptr;
  std::_Exit(block != nullptr && heap->statistics().reserved_bytes < addresses ? 0 : 2);
}

TEST(HeapLimits, ANarrowAddressSpaceGivesASmallerReservation) {
  if (SANITIZED != 0) GTEST_SKIP() << "a sanitizer has more addresses than that already";
  EXPECT_EXIT(allocate_within(64_GiB), testing::ExitedWithCode(0), "");
}

TEST(HeapLimits, ThereAreFourHeapsAtMost) {
  std::vector<Heap> heaps;
  for (int i = 0; i < 4; ++i) heaps.push_back(Heap::create({.reservation_bytes = 1_GiB}).value());
  EXPECT_EQ(Heap::create({.reservation_bytes = 1_GiB}).error().number, EMFILE);
  heaps.pop_back();
  EXPECT_TRUE(Heap::create({.reservation_bytes = 1_GiB}));
}

class AliasDeathTest : public Heaps {};

TEST_P(AliasDeathTest, UsesAfterFreeAndDamageAreReported) {
  Heap heap = make();
  auto* const first = static_cast<char*>(heap.allocate(21));
  auto* const block = static_cast<char*>(heap.allocate(21));
  auto* const third = static_cast<char*>(heap.allocate(21));
  std::memset(block, 'x', 21);
  if (GetParam().revocation == Revocation::at_once) {
    EXPECT_EXIT(
        {
          heap.release(block);
          static_cast<void>(*static_cast<volatile char*>(block + 5));
        },
        testing::ExitedWithCode(66),
        "use after free: read of 1 byte at .*5 bytes into a 21-byte block that was freed");
  }
  EXPECT_EXIT(
      {
        block[22] = 'x';
        heap.release(block);
      },
      testing::ExitedWithCode(66), "overwritten: free\\(\\) at .*2 bytes after a 21-byte block");
  EXPECT_EXIT(
      {
        heap.release(block);
        heap.release(block);
      },
      testing::ExitedWithCode(66), "double free");
  heap.release(third);
  heap.release(block);
  heap.release(first);
}

TEST_P(AliasDeathTest, BlocksOfOneFrameDoNotShareAddresses) {
  Heap heap = make();
  std::vector<char*> blocks;
  for (int i = 0; i < 5000; ++i) {
    blocks.push_back(static_cast<char*>(heap.allocate(30)));
    std::memset(blocks.back(), i, 30);
  }
  for (std::size_t i = 1; i < blocks.size(); ++i)
    ASSERT_NE(page_of(blocks[i]).base, page_of(blocks[i - 1]).base);
  for (int i = 0; i < 5000; ++i)
    ASSERT_EQ(std::string(blocks[static_cast<std::size_t>(i)], 30),
              std::string(30, static_cast<char>(i)));
  for (char* const block : blocks) heap.release(block);
  EXPECT_EQ(heap.statistics().live_objects, 0U);
}

// Twenty extents and more: full ones must not stand in the way of those that have room.
TEST_P(AliasDeathTest, BlocksTakeTheMemoryOfTheirFrames) {
  Heap heap = make();
  constexpr std::size_t kBlocks = 20'000;
  constexpr std::size_t kSize = 2000;  // of 2048 with its known bytes
  const auto file_bytes = [&] {
    int descriptors[2] = {-1, -1};
    engine::descriptors(*heap.engine(), descriptors);
    struct stat facts {};
    EXPECT_EQ(::fstat(descriptors[1], &facts), 0);
    return static_cast<std::size_t>(facts.st_blocks) * 512;
  };
  std::vector<void*> blocks(kBlocks);
  for (int turn = 0; turn < 3; ++turn) {
    for (void*& block : blocks) block = heap.allocate(kSize);
    EXPECT_LT(file_bytes(), kBlocks * 2048 * 3 / 2) << turn;
    // Half by another thread, which has extents of its own and takes no frame of these.
    const auto half = static_cast<std::ptrdiff_t>(kBlocks / 2);
    std::thread([&] {
      std::for_each(blocks.begin(), blocks.begin() + half,
                    [&](void* block) { heap.release(block); });
      std::for_each(blocks.begin(), blocks.begin() + half,
                    [&](void*& block) { block = heap.allocate(kSize); });
    }).join();
    EXPECT_LT(file_bytes(), kBlocks * 2048 * 3 / 2) << turn;
    for (void* const block : blocks) heap.release(block);
  }
}

constexpr Kind kPages[] = {
    {"userfaultfd", Mechanism::userfaultfd},
    {"markers", Mechanism::markers},
    {"mprotect", Mechanism::mprotect},
    // Nearly all is packed, nearly always; where that cannot be had, a page.
    {"cold", Mechanism::userfaultfd, Strength::page, Revocation::at_once, 32_KiB}};
constexpr Kind kAliases[] = {
    {"alias", Mechanism::best, Strength::alias},
    {"alias_batched", Mechanism::best, Strength::alias, Revocation::batched},
    {"alias_lazy", Mechanism::best, Strength::alias, Revocation::lazy}};
const auto kName = [](const auto& one) { return one.param.name; };

INSTANTIATE_TEST_SUITE_P(Page, Heaps, testing::ValuesIn(kPages), kName);
INSTANTIATE_TEST_SUITE_P(Alias, Heaps, testing::ValuesIn(kAliases), kName);
INSTANTIATE_TEST_SUITE_P(Page, HeapsDeathTest, testing::ValuesIn(kPages), kName);
INSTANTIATE_TEST_SUITE_P(Alias, AliasDeathTest, testing::ValuesIn(kAliases), kName);

}  // namespace
}  // namespace pagetrap::guard
