// Owners, shields, and a freer that waits for them.
#include <pagetrap/guard/owner.hpp>

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <vector>

namespace pagetrap::guard {
namespace {

std::atomic<int> g_alive{0};

/// Knows whether it has been destroyed.
struct Witness {
  static constexpr std::uint64_t kAlive = 0x616c697665;
  std::uint64_t state = kAlive;
  std::uint64_t number = 0;
  explicit Witness(std::uint64_t n) : number(n) { g_alive.fetch_add(1); }
  ~Witness() {
    *const_cast<volatile std::uint64_t*>(&state) = 0;
    g_alive.fetch_sub(1);
  }
};

TEST(OwnerTest, AnObjectLivesAsLongAsItsOwner) {
  g_alive = 0;
  Arena arena = Arena::reserve().value();
  {
    const auto owner = Owner<Witness>::make(arena, 1U);
    const Shield<Witness> shield(owner);
    ASSERT_TRUE(shield);
    EXPECT_EQ(shield->number, 1U);
    EXPECT_EQ((*shield).state, Witness::kAlive);
  }
  arena.flush();
  EXPECT_EQ(g_alive.load(), 0);
}

TEST(OwnerTest, AShieldPutsTheEndOff) {
  g_alive = 0;
  Arena arena = Arena::reserve().value();
  auto owner = Owner<Witness>::make(arena, 1U);
  {
    const Shield<Witness> shield(owner);
    owner.reset(arena.create<Witness>(2U));
    arena.flush();
    EXPECT_EQ(g_alive.load(), 2);
    EXPECT_EQ(shield->number, 1U);
    EXPECT_EQ(shield->state, Witness::kAlive);
    EXPECT_EQ(arena.statistics().retired, 1U);
    const Shield<Witness> second(owner);
    EXPECT_EQ(second->number, 2U);
  }
  arena.flush();
  EXPECT_EQ(g_alive.load(), 1);
  EXPECT_EQ(arena.statistics().retired, 0U);
}

TEST(OwnerTest, AShieldOfAnotherThreadPutsItOffToo) {
  g_alive = 0;
  Arena arena = Arena::reserve().value();
  auto owner = Owner<Witness>::make(arena, 1U);
  std::atomic<int> step{0};
  std::thread reader([&] {
    const Shield<Witness> shield(owner);
    step = 1;
    while (step != 2) std::this_thread::yield();
    EXPECT_EQ(shield->state, Witness::kAlive);
  });
  while (step != 1) std::this_thread::yield();
  owner.reset();
  arena.flush();
  EXPECT_EQ(g_alive.load(), 1);
  step = 2;
  reader.join();
  arena.flush();
  EXPECT_EQ(g_alive.load(), 0);
}

TEST(OwnerTest, MovedAndEmptyOwners) {
  g_alive = 0;
  Arena arena = Arena::reserve().value();
  Owner<Witness> empty;
  EXPECT_TRUE(empty.empty());
  EXPECT_FALSE(Shield<Witness>(empty));
  empty.reset();
  auto first = Owner<Witness>::make(arena, 1U);
  Owner<Witness> second(std::move(first));
  EXPECT_FALSE(Shield<Witness>(first));
  EXPECT_EQ(Shield<Witness>(second)->number, 1U);
  empty = std::move(second);
  EXPECT_EQ(Shield<Witness>(empty)->number, 1U);
  empty.reset();
  arena.flush();
  EXPECT_EQ(g_alive.load(), 0);
}

TEST(OwnerTest, ManyShieldsInAnyOrder) {
  g_alive = 0;
  Arena arena = Arena::reserve().value();
  constexpr std::size_t kMany = 500;
  std::vector<Owner<Witness>> owners;
  for (std::uint64_t i = 0; i < kMany; ++i) owners.push_back(Owner<Witness>::make(arena, i));
  std::vector<std::optional<Shield<Witness>>> shields(kMany);
  for (std::size_t i = 0; i < kMany; ++i) shields[i].emplace(owners[i]);
  for (auto& owner : owners) owner.reset();
  for (std::size_t left = kMany; left > 0; --left) {
    shields[(left * 7) % kMany].reset();  // 7 and 500 have no common divisor: each one once
    if (left % 100 != 1) continue;
    arena.flush();
    ASSERT_EQ(g_alive.load(), static_cast<int>(left - 1));
  }
  // And their slots are used again.
  for (std::size_t i = 0; i < kMany; ++i) shields[i].emplace(owners[i]);
}

TEST(OwnerTest, FullBatchesAreDestroyedByThemselves) {
  g_alive = 0;
  ArenaOptions options;
  options.retire_batch = 10;
  Arena arena = Arena::reserve(options).value();
  auto owner = Owner<Witness>::make(arena, 0U);
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    owner.reset(arena.create<Witness>(i));
    ASSERT_LE(g_alive.load(), 11);
  }
}

TEST(OwnerTest, ADestructorMayRetire) {
  struct List {
    Owner<List> next;
    Witness witness{0};
  };
  g_alive = 0;
  ArenaOptions options;
  options.retire_batch = 3;
  Arena arena = Arena::reserve(options).value();
  Owner<List> head;
  for (int i = 0; i < 1000; ++i) {
    auto* const node = arena.create<List>();
    node->next = std::move(head);
    head = Owner<List>(arena, node);
  }
  EXPECT_EQ(g_alive.load(), 1000);
  head.reset();
  for (int i = 0; i < 1000 && g_alive.load() > 0; ++i) arena.flush();
  EXPECT_EQ(g_alive.load(), 0);
}

TEST(OwnerTest, ThreadsThatEndLeaveTheirSlots) {
  Arena arena = Arena::reserve().value();
  auto owner = Owner<Witness>::make(arena, 1U);
  for (int i = 0; i < 200; ++i)
    std::thread([&] {
      const Shield<Witness> shield(owner);
      ASSERT_EQ(shield->number, 1U);
    }).join();
}

// A thread-local that was made before the thread's first shield ends after its slots are given up.
TEST(OwnerTest, AShieldInAThreadsLastDestructors) {
  static Owner<Witness>* shared = nullptr;
  struct Late {
    int* seen = nullptr;
    ~Late() {
      if (seen != nullptr) *seen = static_cast<int>(Shield<Witness>(*shared)->number);
    }
  };
  Arena arena = Arena::reserve().value();
  auto owner = Owner<Witness>::make(arena, 5U);
  shared = &owner;
  int seen = 0;
  std::thread([&] {
    thread_local Late late;
    late.seen = &seen;
    const Shield<Witness> shield(owner);
  }).join();
  EXPECT_EQ(seen, 5);
}

// Readers follow owners while writers replace what they own, without a pause. Every object tells
// whether it is alive, and its page is gone when it is not.
TEST(OwnerTest, NoUseAfterFreeUnderStress) {
  g_alive = 0;
  constexpr std::size_t kOwners = 8;
  constexpr int kReplacements = 200'000;
  Arena arena = Arena::reserve().value();
  std::array<Owner<Witness>, kOwners> owners;
  for (std::size_t i = 0; i < kOwners; ++i) owners[i] = Owner<Witness>::make(arena, i);
  std::atomic<bool> done{false};
  std::atomic<std::size_t> dead{0};
  std::atomic<std::size_t> reads{0};
  std::thread reader([&] {
    std::mt19937 random(5);
    std::size_t mine = 0;
    while (!done.load(std::memory_order_relaxed)) {
      const Shield<Witness> first(owners[random() % kOwners]);
      const Shield<Witness> second(owners[random() % kOwners]);
      for (int i = 0; i < 20; ++i) {
        const auto state = *const_cast<const volatile std::uint64_t*>(&first->state);
        const auto other = *const_cast<const volatile std::uint64_t*>(&second->state);
        if (state != Witness::kAlive || other != Witness::kAlive) dead.fetch_add(1);
      }
      ++mine;
    }
    reads = mine;
  });
  std::mt19937 random(6);
  for (std::uint64_t i = 0; i < kReplacements; ++i)
    owners[random() % kOwners].reset(arena.create<Witness>(i));
  done = true;
  reader.join();
  EXPECT_EQ(dead.load(), 0U);
  EXPECT_GT(reads.load(), 1000U);
  for (auto& owner : owners) owner.reset();
  arena.flush();
  EXPECT_EQ(g_alive.load(), 0);
  EXPECT_EQ(arena.statistics().never_destroyed, 0U);
  EXPECT_GT(arena.statistics().pages_dropped, 700U);
}

}  // namespace
}  // namespace pagetrap::guard
