#include <pagetrap/compress/compressed_memory.hpp>

#include <map>
#include <string>
#include <thread>
#include <unordered_map>

#include <pagetrap/pager/pager.hpp>

#include "compress/support.hpp"

namespace pagetrap::compress {
namespace {

class Memory : public testing::Test {
 protected:
  void SetUp() override {
    engine_ = pager::Pager::create({.budget_bytes = 8_MiB}).value();
    auto made = CompressedMemory::create(*engine_, 64_MiB);
    if (!made) GTEST_SKIP() << describe(made.error());
    memory_ = std::move(*made);
  }
  std::unique_ptr<pager::Pager> engine_;
  std::unique_ptr<CompressedMemory> memory_;
};

using Map = std::pmr::unordered_map<int, std::pmr::string>;

std::string value_of(int key) {
  return "the value of the key " + std::to_string(key) + ", with some more words to it, " +
         std::string(static_cast<std::size_t>(key % 100), 'x');
}

TEST_F(Memory, HoldsContainersLargerThanItsBudget) {
  Map map(memory_->resource());
  constexpr int kKeys = 100'000;
  for (int key = 0; key < kKeys; ++key) map.emplace(key, value_of(key));
  for (int key = 0; key < kKeys; key += 7) map.erase(key);
  for (int key = 0; key < kKeys; key += 7) map.emplace(key, value_of(key));
  EXPECT_GT(memory_->used_bytes(), 2 * 8_MiB);
  for (int key = 0; key < kKeys; ++key) ASSERT_EQ(map.at(key), value_of(key).c_str());
  const auto statistics = engine_->statistics();
  EXPECT_GT(statistics.evictions, 1000U);
  EXPECT_LE(statistics.resident_bytes, 8_MiB);
}

TEST_F(Memory, AlignsAndRunsOut) {
  for (std::size_t alignment = 1; alignment <= page_size(); alignment *= 2) {
    for (const std::size_t size : {1U, 24U, 100U, 5000U, 100'000U}) {
      std::vector<void*> blocks;
      for (unsigned i = 0; i < 3; ++i) {
        void* const block = memory_->resource()->allocate(size, alignment);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0U) << alignment;
        std::memset(block, 1, size);
        blocks.push_back(block);
      }
      for (void* const block : blocks) memory_->resource()->deallocate(block, size, alignment);
      void* const again = memory_->resource()->allocate(size, alignment);
      EXPECT_NE(std::ranges::find(blocks, again), blocks.end());
      memory_->resource()->deallocate(again, size, alignment);
    }
  }
  EXPECT_THROW(static_cast<void>(memory_->resource()->allocate(1, 2 * page_size())),
               std::bad_alloc);
  EXPECT_THROW(static_cast<void>(memory_->resource()->allocate(65_MiB)), std::bad_alloc);
  EXPECT_THROW(static_cast<void>(memory_->resource()->allocate(~std::size_t{0} - 100)),
               std::bad_alloc);
  EXPECT_NO_THROW(memory_->resource()->deallocate(memory_->resource()->allocate(16), 16));
}

TEST_F(Memory, IsParkedAndWakes) {
  Map map(memory_->resource());
  for (int key = 0; key < 30'000; ++key) map.emplace(key, value_of(key));
  ASSERT_TRUE(memory_->park());
  EXPECT_EQ(memory_->region().statistics().resident_pages, 0U);
  const auto parked = memory_->source().statistics();
  EXPECT_EQ(parked.retained_pages, 0U);
  EXPECT_LT(parked.store.pool_bytes, memory_->used_bytes() / 3);
  const auto woken = memory_->wake();
  ASSERT_TRUE(woken) << describe(woken.error());
  EXPECT_GT(memory_->region().statistics().resident_pages, 500U);
  for (int key = 0; key < 30'000; ++key) ASSERT_EQ(map.at(key), value_of(key).c_str());
  // To a given residency, while it is used.
  ASSERT_TRUE(memory_->park(1_MiB));
  EXPECT_LE(memory_->region().statistics().resident_pages, 1_MiB / page_size());
  for (int key = 0; key < 30'000; key += 10) ASSERT_EQ(map.at(key), value_of(key).c_str());
  EXPECT_LE(memory_->region().statistics().resident_pages, 1_MiB / page_size());
  ASSERT_TRUE(memory_->wake());
}

TEST_F(Memory, ServesManyThreads) {
  std::vector<std::thread> threads;
  std::atomic<unsigned> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::pmr::map<int, std::pmr::string> map(memory_->resource());
      for (int i = 0; i < 20'000; ++i) {
        map.insert_or_assign(i, std::pmr::string(value_of(i + t).c_str(), memory_->resource()));
        if (i % 5 == 0) map.erase(i / 2);
      }
      for (const auto& [key, value] : map)
        if (value != value_of(key + t).c_str()) wrong.fetch_add(1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0U);
}

}  // namespace
}  // namespace pagetrap::compress
