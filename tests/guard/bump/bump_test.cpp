// Both forms of bump allocation do the same, in every situation.
#include <pagetrap/guard/bump.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "guard/bump/instructions.hpp"

namespace pagetrap::guard {
namespace {

constexpr std::size_t kNursery = 64_KiB;

std::uint64_t last_word_of(const std::byte* object, std::size_t size) {
  std::uint64_t word = 0;
  std::memcpy(&word, object + size - sizeof word, sizeof word);
  return word;
}

NurseryPool pool_of(std::size_t nurseries, Refill refill = nullptr, void* self = nullptr) {
  NurseryOptions options;
  options.nursery_bytes = kNursery;
  options.nurseries = nurseries;
  options.refill = refill;
  options.self = self;
  return NurseryPool::create(options).value();
}

/// Writes down what it is told, and takes the next.
struct Log {
  std::vector<FullNursery> full;
  Log() { full.reserve(4096); }  // not inside the fault
  static std::byte* refill(void* self, NurseryPool& pool, const FullNursery& full) noexcept {
    static_cast<Log*>(self)->full.push_back(full);
    return pool.take();
  }
};

template <class Limit>
class Bump : public testing::Test {
 protected:
  using Allocator = BumpAllocator<Limit>;
};

using Limits = testing::Types<GuardPage, CompareAndBranch>;
class Names {
 public:
  template <class Limit>
  static std::string GetName(int) {
    return std::is_same_v<Limit, GuardPage> ? "GuardPage" : "CompareAndBranch";
  }
};
TYPED_TEST_SUITE(Bump, Limits, Names);

TYPED_TEST(Bump, EverySizeFromEightBytesToTheLargest) {
  for (std::size_t size = 8; size <= 65528; size += size < 1024 ? 8 : 4088) {
    Log log;
    NurseryPool pool = pool_of(4, Log::refill, &log);
    BumpAllocator<TypeParam> allocator(pool);
    const std::size_t in_each = kNursery / size;
    std::vector<std::byte*> objects;
    for (std::size_t i = 0; i < in_each * 3; ++i)
      objects.push_back(allocator.allocate(static_cast<std::uint16_t>(size), i + 1));
    ASSERT_EQ(pool.refills(), 3U) << size;
    ASSERT_EQ(log.full.size(), 3U) << size;
    EXPECT_EQ(log.full[0].base, nullptr);
    for (std::size_t i = 0; i < objects.size(); ++i) {
      // None straddles, none is lost: each begins where the last one ended, or a nursery does.
      if (i % in_each != 0) {
        ASSERT_EQ(objects[i], objects[i - 1] + size) << size << " " << i;
      } else if (i != 0) {
        ASSERT_EQ(log.full[i / in_each].base, objects[i - in_each]) << size;
        ASSERT_EQ(log.full[i / in_each].end, objects[i - 1] + size) << size;
      }
      ASSERT_EQ(last_word_of(objects[i], size), i + 1) << size << " " << i;
      std::memset(objects[i], 0x5a, size);  // all of it may be written
    }
  }
}

TYPED_TEST(Bump, MixedSizesAreDisjointAndWhole) {
  Log log;
  NurseryPool pool = pool_of(300, Log::refill, &log);
  BumpAllocator<TypeParam> allocator(pool);
  std::mt19937 random(7);
  struct Made {
    std::byte* object;
    std::size_t size;
  };
  std::vector<Made> made;
  std::size_t total = 0;
  for (std::size_t i = 0; pool.refills() < 250; ++i) {
    const std::size_t size = 8 + random() % (i % 100 == 0 ? 8190 : 16) * 8;
    std::byte* const object = allocator.allocate(static_cast<std::uint16_t>(size), i);
    ASSERT_NE(object, nullptr);
    std::memset(object, static_cast<int>(i & 0xff), size);
    made.push_back({object, size});
    total += size;
  }
  for (std::size_t i = 0; i < made.size(); ++i)
    for (std::size_t byte = 0; byte < made[i].size; ++byte)
      ASSERT_EQ(made[i].object[byte], std::byte(i & 0xff)) << i;
  // What the refills were told, and what is in the nursery in use, is all that was made.
  std::size_t told = 0;
  for (const FullNursery& full : log.full) told += static_cast<std::size_t>(full.end - full.base);
  const std::byte* const current = pool.place(allocator.cursor(), 0).limit - kNursery;
  EXPECT_EQ(told + static_cast<std::size_t>(allocator.cursor() - current), total);
}

TYPED_TEST(Bump, TheSameNurseryAgain) {
  struct Count {
    int refills = 0;
    static std::byte* again(void* self, NurseryPool& pool, const FullNursery& full) noexcept {
      ++static_cast<Count*>(self)->refills;
      return full.base != nullptr ? full.base : pool.take();
    }
  } count;
  NurseryPool pool = pool_of(1, Count::again, &count);
  BumpAllocator<TypeParam> allocator(pool);
  for (std::size_t i = 0; i < kNursery / 32 * 100; ++i)
    ASSERT_EQ(last_word_of(allocator.allocate(32, i), 32), i);
  EXPECT_EQ(count.refills, 100);
}

TYPED_TEST(Bump, NullWhenThereIsNoneAndOnAfterThat) {
  NurseryPool pool = pool_of(2);
  BumpAllocator<TypeParam> allocator(pool);
  std::byte* const first = allocator.allocate(64);
  for (std::size_t i = 1; i < 2 * kNursery / 64; ++i) ASSERT_NE(allocator.allocate(64), nullptr);
  const std::byte* const end = allocator.cursor();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(allocator.allocate(64), nullptr);
    EXPECT_EQ(allocator.cursor(), end);
  }
  EXPECT_EQ(pool.refills(), 2U);
  pool.give_back(first);
  EXPECT_EQ(allocator.allocate(64), first);
}

TYPED_TEST(Bump, ARefillThatIsNoNurseryCountsAsNone) {
  const Refill inside = [](void*, NurseryPool& pool, const FullNursery&) noexcept {
    return pool.nowhere() + NurseryPool::kGuardBytes + 8;
  };
  NurseryPool pool = pool_of(1, inside);
  BumpAllocator<TypeParam> allocator(pool);
  EXPECT_EQ(allocator.allocate(16), nullptr);
}

TYPED_TEST(Bump, LargeObjectsCompare) {
  NurseryPool pool = pool_of(3);
  BumpAllocator<TypeParam> allocator(pool);
  std::byte* const small = allocator.allocate(8);
  std::byte* const large = allocator.allocate_large(kNursery);  // not behind the small one
  ASSERT_NE(large, nullptr);
  EXPECT_NE(large, small + 8);
  std::memset(large, 1, kNursery);
  EXPECT_EQ(allocator.allocate_large(kNursery + 8), nullptr);
  EXPECT_EQ(allocator.allocate_large(~std::size_t{0}), nullptr);
  ASSERT_NE(allocator.allocate(8), nullptr);  // in the third
  EXPECT_EQ(pool.refills(), 3U);
}

TYPED_TEST(Bump, ThreadsWithNurseriesOfTheirOwn) {
  constexpr int kThreads = 4;
  constexpr std::size_t kEach = 20 * kNursery / 48;
  NurseryPool pool = pool_of(kThreads * 21);
  std::vector<std::vector<std::byte*>> made(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      constinit thread_local BumpAllocator<TypeParam> allocator;
      allocator = BumpAllocator<TypeParam>(pool);
      auto& mine = made[static_cast<std::size_t>(t)];
      mine.reserve(kEach);
      for (std::size_t i = 0; i < kEach; ++i) {
        std::byte* const object = allocator.allocate(48, i);
        std::memset(object, t + 1, 40);
        mine.push_back(object);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < kThreads; ++t)
    for (std::size_t i = 0; i < kEach; ++i) {
      const std::byte* const object = made[static_cast<std::size_t>(t)][i];
      ASSERT_EQ(object[0], std::byte(t + 1));
      ASSERT_EQ(object[39], std::byte(t + 1));
      ASSERT_EQ(last_word_of(object, 48), i);
    }
}

// Every refill allocates as well, in a nursery of another pool, and that fills too: with GuardPage
// a fault inside a fault.
TYPED_TEST(Bump, ARefillThatAllocates) {
  if (SANITIZED_THREADS != 0) GTEST_SKIP() << "ThreadSanitizer blocks all signals in a handler";
  struct Inner {
    NurseryPool pool = pool_of(200);
    BumpAllocator<TypeParam> allocator{pool};
    std::size_t records = 0;
    static std::byte* refill(void* self, NurseryPool& outer, const FullNursery& full) noexcept {
      auto& inner = *static_cast<Inner*>(self);
      for (int i = 0; i < 3; ++i) {
        std::byte* const record = inner.allocator.allocate(30000);
        if (record == nullptr) return nullptr;
        std::memset(record, 1, 30000);
        ++inner.records;
      }
      return full.base != nullptr ? full.base : outer.take();
    }
  } inner;
  NurseryPool pool = pool_of(1, Inner::refill, &inner);
  BumpAllocator<TypeParam> allocator(pool);
  for (std::size_t i = 0; i < 100 * kNursery / 64; ++i)
    ASSERT_EQ(last_word_of(allocator.allocate(64, i), 64), i);
  EXPECT_EQ(inner.records, 300U);
  EXPECT_EQ(inner.pool.refills(), 150U);
}

struct Node {
  Node* left;
  Node* right;
  std::uint64_t depth;
};
template <class Allocator>
Node* tree(Allocator& allocator, std::uint64_t depth) {
  if (depth == 0) return nullptr;
  Node* const left = tree(allocator, depth - 1);
  Node* const right = tree(allocator, depth - 1);
  auto* const node = reinterpret_cast<Node*>(allocator.allocate(sizeof(Node), depth));
  node->left = left;
  node->right = right;
  return node;
}
std::size_t nodes_of(const Node* node, std::uint64_t depth) {
  if (node == nullptr) return 0;
  EXPECT_EQ(node->depth, depth);
  return 1 + nodes_of(node->left, depth - 1) + nodes_of(node->right, depth - 1);
}

TYPED_TEST(Bump, ATreeByRecursion) {
  NurseryPool pool = pool_of(64);
  BumpAllocator<TypeParam> allocator(pool);
  EXPECT_EQ(nodes_of(tree(allocator, 16), 16), (1U << 16) - 1);
}

// A signal handler allocates in its own nursery, wherever it interrupts.
template <class Limit>
struct Interrupted {
  static inline BumpAllocator<Limit>* allocator = nullptr;
  static inline std::atomic<unsigned> signals{0};
  static inline std::atomic<unsigned> wrong{0};
  static void on_signal(int) {
    for (std::uint64_t i = 0; i < 100; ++i) {
      const std::byte* const object = allocator->allocate(4000, i);
      if (object == nullptr || last_word_of(object, 4000) != i) wrong.fetch_add(1);
    }
    signals.fetch_add(1);
  }
};

TYPED_TEST(Bump, SignalsInBetween) {
  using Here = Interrupted<TypeParam>;
  if (SANITIZED_THREADS != 0) GTEST_SKIP() << "ThreadSanitizer blocks all signals in a handler";
  const Refill again = [](void*, NurseryPool& pool, const FullNursery& full) noexcept {
    return full.base != nullptr ? full.base : pool.take();
  };
  NurseryPool of_handler = pool_of(1, again);
  BumpAllocator<TypeParam> in_handler(of_handler);
  Here::allocator = &in_handler;
  Here::signals = 0;
  struct sigaction action {};
  action.sa_handler = Here::on_signal;
  struct sigaction before {};
  ASSERT_EQ(::sigaction(SIGALRM, &action, &before), 0);
  const itimerval often{{0, 500}, {0, 500}};
  ASSERT_EQ(::setitimer(ITIMER_REAL, &often, nullptr), 0);
  NurseryPool pool = pool_of(1, again);
  BumpAllocator<TypeParam> allocator(pool);
  std::size_t made = 0;
  std::size_t misplaced = 0;
  const std::byte* expected = nullptr;
  // Long enough on any machine.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (Here::signals.load() < 300 && std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 1000; ++i, ++made) {
      std::byte* const object = allocator.allocate(40, made);
      if (last_word_of(object, 40) != made) ++misplaced;
      if (object != expected && made % (kNursery / 40) != 0) ++misplaced;
      expected = object + 40;
    }
  }
  const itimerval never{};
  ::setitimer(ITIMER_REAL, &never, nullptr);
  ::sigaction(SIGALRM, &before, nullptr);
  EXPECT_GE(Here::signals.load(), 300U);
  EXPECT_EQ(misplaced, 0U);
  EXPECT_EQ(Here::wrong.load(), 0U);
  EXPECT_EQ(pool.refills(), (made + kNursery / 40 - 1) / (kNursery / 40));
}

TYPED_TEST(Bump, AForkedChildGoesOn) {
  NurseryPool pool = pool_of(8);
  BumpAllocator<TypeParam> allocator(pool);
  ASSERT_NE(allocator.allocate(4096, 1), nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    for (std::uint64_t i = 0; i < 3 * kNursery / 4096; ++i) {
      const std::byte* const object = allocator.allocate(4096, i);
      if (object == nullptr || last_word_of(object, 4096) != i) ::_exit(1);
    }
    ::_exit(pool.refills() == 4 ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

// What is no allocation's store is not made one, with the guard's own address in rdx or not.
TEST(BumpDeathTest, OtherAccessesToTheGuardAreNotServed) {
  if (SANITIZED != 0) GTEST_SKIP() << "the sanitizer ends the process in its own way";
  NurseryPool pool = pool_of(2);
  std::byte* const nursery = pool.take();
  auto* const behind = reinterpret_cast<volatile std::uint64_t*>(nursery + kNursery);
  EXPECT_EXIT(*behind = 1, testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EXIT(static_cast<void>(*behind), testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EQ(pool.refills(), 0U);
}

TEST(Nurseries, TheEnvironmentCannotTakeTheGuardsAway) {
  ::setenv("PAGETRAP_BACKEND", "null", 1);
  NurseryPool pool = pool_of(2);
  ::unsetenv("PAGETRAP_BACKEND");
  BumpAllocator<GuardPage> allocator(pool);
  for (std::size_t i = 0; i < 2 * kNursery / 32; ++i) ASSERT_NE(allocator.allocate(32), nullptr);
  EXPECT_EQ(allocator.allocate(32), nullptr);
}

TEST(Nurseries, OptionsThatCannotBe) {
  NurseryOptions options;
  options.nurseries = 0;
  EXPECT_EQ(NurseryPool::create(options).error().number, EINVAL);
  options = {};
  options.nursery_bytes = NurseryPool::kGuardBytes - 1;
  EXPECT_EQ(NurseryPool::create(options).error().number, EINVAL);
  options = {};
  options.nurseries = ~std::size_t{0} / 4096;
  EXPECT_EQ(NurseryPool::create(options).error().number, ENOMEM);
}

TEST(Nurseries, TakenOnceByManyThreads) {
  NurseryPool pool = pool_of(130);
  std::vector<std::vector<std::byte*>> taken(4);
  std::vector<std::thread> threads;
  for (auto& mine : taken)
    threads.emplace_back([&pool, &mine] {
      while (std::byte* const nursery = pool.take()) mine.push_back(nursery);
    });
  for (std::thread& thread : threads) thread.join();
  std::vector<std::byte*> all;
  for (const auto& mine : taken) all.insert(all.end(), mine.begin(), mine.end());
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all.size(), 130U);
  EXPECT_EQ(std::unique(all.begin(), all.end()), all.end());
}

TEST(Nurseries, ThroughAFunctionPerAllocation) {
  NurseryPool pool = pool_of(4);
  BumpAllocator<GuardPage> by_guard(pool);
  BumpAllocator<CompareAndBranch> by_comparison(pool);
  for (std::size_t i = 0; i < kNursery * 3 / 2 / 64; ++i) {
    ASSERT_EQ(last_word_of(allocate_by_guard(&by_guard, 64), 64), 7U);
    ASSERT_EQ(last_word_of(allocate_by_comparison(&by_comparison, 64), 64), 7U);
  }
  EXPECT_EQ(pool.refills(), 4U);
}

}  // namespace
}  // namespace pagetrap::guard
