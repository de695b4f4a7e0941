// The allocator inside an arena.
#include "checkpoint/arena.hpp"

#include <cstring>
#include <list>
#include <map>
#include <random>
#include <thread>

#include "checkpoint/support.hpp"

namespace pagetrap::checkpoint {
namespace {

TEST(SizeClasses, EveryClassIsItsOwnAndHoldsItsSizes) {
  for (unsigned index = 0; index < kClasses; ++index) {
    const std::size_t size = class_size(index);
    EXPECT_EQ(size_class(size), index) << size;
    EXPECT_EQ(size % 16, 0U);
    if (index + 1 < kClasses) {
      EXPECT_LT(size, class_size(index + 1));
      EXPECT_EQ(size_class(size + 1), index + 1) << size;
    }
  }
  for (std::size_t size = 129; size < 100'000; ++size) {
    const std::size_t given = class_size(size_class(size));
    ASSERT_GE(given, size);
    ASSERT_LT(given, size + size / 4 + 16);
  }
}

class Arenas : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    auto made = Checkpointer::create(options_for(GetParam()));
    if (!made) GTEST_SKIP() << describe(made.error());
    checkpointer_.emplace(std::move(*made));
  }
  std::optional<Checkpointer> checkpointer_;
};

TEST_P(Arenas, AllocationsOfManyThreadsDoNotOverlap) {
  Arena& arena = *checkpointer_->arena("heap", std::size_t{1} << 30).value();
  std::atomic<unsigned> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      std::pmr::list<std::pmr::vector<unsigned>> lists(arena.resource());
      for (unsigned i = 0; i < 3000; ++i) {
        lists.emplace_back(random() % 300, t * 10'000 + i);
        if (random() % 3 != 0) continue;
        for (const auto& list : lists)
          for (const unsigned value : list)
            if (value / 10'000 != t) wrong.fetch_add(1);
        while (lists.size() > 50) lists.pop_front();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0U);
}

TEST_P(Arenas, FreedMemoryIsUsedAgain) {
  Arena& arena = *checkpointer_->arena("heap", std::size_t{1} << 30).value();
  void* const first = arena.resource()->allocate(1000);
  arena.resource()->deallocate(first, 1000);
  const std::size_t used = arena.used_bytes();
  for (unsigned i = 0; i < 100'000; ++i)
    arena.resource()->deallocate(arena.resource()->allocate(1000), 1000);
  EXPECT_EQ(arena.used_bytes(), used);
}

TEST_P(Arenas, AlignsAndRunsOut) {
  Arena& arena = *checkpointer_->arena("heap", std::size_t{1} << 30).value();
  for (std::size_t alignment = 16; alignment <= 4096; alignment *= 2) {
    for (const std::size_t size : {1U, 24U, 100U, 5000U, 100'000U}) {
      void* const block = arena.resource()->allocate(size, alignment);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0U) << alignment;
      std::memset(block, 1, size);
    }
  }
  EXPECT_THROW(static_cast<void>(arena.resource()->allocate(1, 8192)), std::bad_alloc);
  EXPECT_THROW(static_cast<void>(arena.resource()->allocate(std::size_t{2} << 30)), std::bad_alloc);
  EXPECT_THROW(static_cast<void>(arena.resource()->allocate(~std::size_t{0} - 100)),
               std::bad_alloc);
  EXPECT_NE(arena.resource()->allocate(16), nullptr);
}

TEST_P(Arenas, NamesAndAddressesAreTaken) {
  Arena* const first = checkpointer_->arena("one", 1000).value();
  const auto twice = checkpointer_->arena("one", 1000);
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().number, EEXIST);
  EXPECT_FALSE(checkpointer_->arena("", 1000));
  EXPECT_FALSE(checkpointer_->arena("none", 0));
  EXPECT_FALSE(checkpointer_->arena("much", ~std::size_t{0}));
  Arena* const second = checkpointer_->arena("two", std::size_t{3} << 30).value();
  EXPECT_GE(second->range().base, first->range().end());
  EXPECT_EQ(checkpointer_->find_arena("two"), second);
  EXPECT_EQ(checkpointer_->find_arena("three"), nullptr);
  // The same again in a process that makes them in the same order.
  auto another = Checkpointer::create(options_for(GetParam())).value();
  const auto refused = another.arena("one", 1000);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().number, EEXIST);
  std::byte* const where = first->range().base;
  checkpointer_.reset();
  EXPECT_EQ(another.arena("one", 1000).value()->range().base, where);
}

INSTANTIATE_TEST_SUITE_P(Checkpoint, Arenas, ::testing::ValuesIn(kWays), way_name);

}  // namespace
}  // namespace pagetrap::checkpoint
