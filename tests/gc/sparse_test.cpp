// Full cycles leave pages in place: what is dead in them costs nothing, pages that are empty are
// free again, and sparse ones are evacuated by the next full cycle.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include <pagetrap/gc/gc.hpp>

#include "gc/supplies.hpp"
#include "gc/wipe_stack.hpp"

namespace pagetrap {
namespace {

struct Brick : gc::object<Brick> {
  gc::ref<Brick> next;
  gc::ref<gc::array<std::uint64_t>> words;  // a leaf
  std::uint64_t number = 0;
  std::array<std::uint64_t, 4> rest{};
  static constexpr auto members = gc::members(&Brick::next, &Brick::words);
};

class Sparse : public testing::TestWithParam<gc::PageSupply> {
 protected:
  static gc::Options options() {
    gc::Options options;
    options.supply = GetParam();
    options.nursery_bytes = 1_MiB;
    options.limit_bytes = 512_MiB;
    options.growth = 1e9;  // full cycles only when they are asked for
    return options;
  }
  // Survivors, one after the other.
  void make_wall(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      auto* const words = heap_->make_array<std::uint64_t>(3);
      (*words)[2] = i;
      Brick* const brick = heap_->make<Brick>();
      brick->next = wall_->get();
      brick->words = words;
      brick->number = i;
      *wall_ = brick;
    }
    heap_->collect(false);
  }
  // Every `of`-th brick is left in the chain; returns how many.
  std::uint64_t keep_every(std::uint64_t of) {
    std::uint64_t kept = 0;
    Brick* last = nullptr;
    for (Brick* brick = wall_->get(); brick != nullptr; brick = brick->next) {
      if (brick->number % of != 0) continue;
      if (last == nullptr) {
        *wall_ = brick;
      } else {
        last->next = brick;
      }
      last = brick;
      ++kept;
    }
    last->next = nullptr;
    return kept;
  }
  void check(std::uint64_t count, std::uint64_t of) const {
    std::uint64_t expected = count;
    for (const Brick* brick = wall_->get(); brick != nullptr; brick = brick->next) {
      expected -= of;
      ASSERT_EQ(brick->number, expected);
      ASSERT_EQ((*brick->words)[2], expected);
    }
    ASSERT_EQ(expected, 0U);
  }
  [[nodiscard]] std::size_t used() const { return heap_->statistics().used_bytes; }

  void SetUp() override {
    auto made = gc::Heap::create(options());
    if (!made && made.error().number == ENOTSUP) GTEST_SKIP() << describe(made.error());
    heap_.emplace(std::move(made).value());
    here_.emplace(*heap_);
    wall_.emplace(*heap_);
  }
  void TearDown() override {
    wall_.reset();
    here_.reset();
  }
  std::optional<gc::Heap> heap_;
  std::optional<gc::Mutator> here_;
  std::optional<gc::root<Brick>> wall_;
};

constexpr std::uint64_t kBricks = 200'000;

TEST_P(Sparse, WhatIsAliveStaysInPlace) {
  make_wall(kBricks);
  const std::uint64_t copied = heap_->statistics().copied_bytes;
  const Brick* const brick = wall_->get()->next;
  for (int i = 0; i < 3; ++i) heap_->collect(true);
  EXPECT_EQ(wall_->get()->next, brick);
  // A full cycle copies what is in the nursery, and nothing else.
  EXPECT_LT(heap_->statistics().copied_bytes - copied, 1_MiB);
  check(kBricks, 1);
}

TEST_P(Sparse, WhatIsSparseIsMovedByTheSecondFullCycle) {
  make_wall(kBricks);
  const std::size_t full = used();
  const std::uint64_t kept = keep_every(20);
  ASSERT_EQ(kept, kBricks / 20);
  wipe_stack();
  heap_->collect(true);
  // Each page has something alive.
  EXPECT_GT(used(), full / 2);
  check(kBricks, 20);
  heap_->collect(true);
  EXPECT_LT(used(), full / 10);
  check(kBricks, 20);
  for (int i = 0; i < 3; ++i) {
    make_wall(1000);
    keep_every(20);
    heap_->collect(true);
  }
}

TEST_P(Sparse, EmptyPagesAreFreeAtOnce) {
  make_wall(kBricks);
  const std::size_t full = used();
  *wall_ = nullptr;
  wipe_stack();
  heap_->collect(true);
  EXPECT_LT(used(), full / 20);
  // And are used again.
  for (int i = 0; i < 5; ++i) {
    make_wall(kBricks);
    check(kBricks, 1);
    *wall_ = nullptr;
    wipe_stack();
    heap_->collect(true);
  }
  EXPECT_LT(used(), full / 20);
}

TEST_P(Sparse, AFullHeapIsEmptiedOfWhatIsSparseBeforeItIsFull) {
  gc::Options small = options();
  small.limit_bytes = 48_MiB;
  small.nursery_bytes = 1_MiB;
  wall_.reset();
  here_.reset();
  heap_.emplace(small);
  here_.emplace(*heap_);
  wall_.emplace(*heap_);
  // Nine tenths of each wall die in the midst of what lives.
  std::vector<gc::root<Brick>> kept;
  for (int i = 0; i < 12; ++i) {
    make_wall(kBricks / 2);
    ASSERT_EQ(keep_every(10), kBricks / 20);
    kept.emplace_back(*heap_, wall_->get());
    *wall_ = nullptr;
  }
  for (const gc::root<Brick>& one : kept) {
    *wall_ = one.get();
    check(kBricks / 2, 10);
  }
}

TEST_P(Sparse, GraphsThatAreThinnedAgainAndAgain) {
  std::uint64_t seed = 12345;
  const auto random = [&](std::uint64_t below) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
  };
  auto* const table = heap_->make_array<gc::ref<Brick>>(2000);
  gc::root<gc::array<gc::ref<Brick>>> kept(*heap_, table);
  for (int round = 0; round < 60; ++round) {
    for (int i = 0; i < 20'000; ++i) {
      Brick* const brick = heap_->make<Brick>();
      brick->number = random(1000);
      brick->rest[3] = brick->number + 1;
      brick->next = (*table)[random(2000)];
      if (brick->next != nullptr && random(3) != 0) brick->next = nullptr;
      (*table)[random(2000)] = brick;
    }
    heap_->collect(random(3) != 0);
    for (std::size_t i = 0; i < table->size(); ++i)
      for (const Brick* brick = (*table)[i]; brick != nullptr; brick = brick->next)
        ASSERT_EQ(brick->rest[3], brick->number + 1) << "round " << round;
  }
  EXPECT_LT(used(), 32_MiB);
}

INSTANTIATE_TEST_SUITE_P(, Sparse, testing::ValuesIn(tested_supplies()),
                         [](const auto& which) { return test_name(which.param); });

}  // namespace
}  // namespace pagetrap
