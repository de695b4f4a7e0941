// Page and cold: blocks that were opened long ago are packed, and come back when they are touched.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <pagetrap/core/units.hpp>
#include <pagetrap/guard/heap.hpp>

#include "guard/cold/packed_store.hpp"

namespace pagetrap::guard {
namespace {

class Cold : public testing::Test {
 protected:
  void SetUp() override {
    HeapOptions options;
    options.hot_bytes = 64_KiB;
    heap = Heap::create(options).value();
    if (heap.statistics().hot_bytes == 0)
      GTEST_SKIP() << "no userfaultfd for faults in system calls, or before Linux 6.8";
  }
  char* make(const std::string& text) {
    auto* const block = static_cast<char*>(heap.allocate(text.size()));
    std::memcpy(block, text.data(), text.size());
    return block;
  }
  /// Until what was there before is packed.
  void push_out() {
    for (int i = 0; i < 500; ++i) others.push_back(make(std::string(40, 'o')));
  }
  [[nodiscard]] static bool is_there(const char* block) {
    unsigned char present = 0;
    return mincore_of(block, present) && (present & 1) != 0;
  }
  static bool mincore_of(const char* block, unsigned char& present);
  Heap heap;
  std::vector<char*> others;
};

// In the page tables of this process: mincore(2) would see the page cache only, and this is
// anonymous memory.
bool Cold::mincore_of(const char* block, unsigned char& present) {
  const int pagemap = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  std::uint64_t entry = 0;
  const auto page = reinterpret_cast<std::uintptr_t>(block) / 4096;
  const bool read = ::pread(pagemap, &entry, sizeof entry, static_cast<off_t>(page * 8)) == 8;
  ::close(pagemap);
  present = (entry >> 63) != 0 ? 1 : 0;
  return read;
}

TEST_F(Cold, BlocksLoseTheirPagesAndKeepTheirContents) {
  std::vector<char*> blocks;
  std::mt19937 random(3);
  const auto text = [](std::size_t i) { return std::string(1 + i % 900, static_cast<char>(i)); };
  for (std::size_t i = 0; i < 5000; ++i) blocks.push_back(make(text(i)));
  const HeapStatistics after = heap.statistics();
  EXPECT_GT(after.packed, 4000U);
  EXPECT_EQ(after.brought_back, 0U);
  std::size_t there = 0;
  for (const char* const block : blocks) there += is_there(block) ? 1 : 0;
  EXPECT_LT(there, 200U);
  for (int i = 0; i < 20'000; ++i) {
    const std::size_t which = random() % blocks.size();
    ASSERT_EQ(std::string(blocks[which], text(which).size()), text(which));
    if (i % 3 != 0) continue;
    heap.release(blocks[which]);
    blocks[which] = make(text(which));
  }
  EXPECT_GT(heap.statistics().brought_back, 1000U);
  for (char* const block : blocks) heap.release(block);
  EXPECT_EQ(heap.statistics().live_objects, 0U);
}

TEST_F(Cold, WhatIsWrittenAfterItCameBackIsKept) {
  char* const block = make("first");
  for (char c = 'a'; c < 'h'; ++c) {
    push_out();
    ASSERT_FALSE(is_there(block));
    *block = c;
    ASSERT_TRUE(is_there(block));
  }
  push_out();
  EXPECT_EQ(std::string(block, 5), "girst");
}

TEST_F(Cold, SystemCallsReadAndWriteWhatIsPacked) {
  char* const from = make("to be written");
  char* const to = make(std::string(13, '-'));
  push_out();
  ASSERT_FALSE(is_there(from));
  ASSERT_FALSE(is_there(to));
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  EXPECT_EQ(::write(ends[1], from, 13), 13);
  EXPECT_EQ(::read(ends[0], to, 13), 13);
  EXPECT_EQ(std::string(to, 13), "to be written");
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(Cold, WrongAccessesAreReportedAsBefore) {
  char* const block = make(std::string(21, 'x'));
  char* const dead = make("dead");
  push_out();
  heap.release(dead);
  EXPECT_EXIT(*static_cast<volatile char*>(block + 22) = 1, testing::ExitedWithCode(66),
              "heap overflow: write of 1 byte .* 2 bytes after a 21-byte block");
  EXPECT_EXIT(static_cast<void>(*static_cast<volatile char*>(dead)), testing::ExitedWithCode(66),
              "use after free: read of 1 byte .* a 4-byte block that was freed");
  EXPECT_EXIT(heap.release(dead), testing::ExitedWithCode(66), "double free");
  EXPECT_EXIT(
      {
        block[-1] = 'y';  // which brings it back, with its known bytes
        heap.release(block);
      },
      testing::ExitedWithCode(66), "overwritten: .*1 byte before a 21-byte block");
}

// A page whose known bytes are damaged is evidence.
TEST_F(Cold, DamageIsNotPackedAway) {
  char* const block = make(std::string(21, 'x'));
  block[-5] = 'y';
  push_out();
  EXPECT_TRUE(is_there(block));
  EXPECT_EXIT(heap.release(block), testing::ExitedWithCode(66),
              "overwritten: .*5 bytes before a 21-byte block");
}

TEST_F(Cold, AChildBringsBackItsOwn) {
  char* const block = make("parent");
  push_out();
  ASSERT_FALSE(is_there(block));
  const pid_t child = ::fork();
  if (child == 0) {
    const bool right = std::string(block, 6) == "parent";
    std::memcpy(block, "child!", 6);
    for (char* const other : others)
      if (*other != 'o') ::_exit(2);
    ::_exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(std::string(block, 6), "parent");
}

// Packing, bringing back, freeing and fork() at once.
TEST_F(Cold, Threads) {
  constexpr int kThreads = 4;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int number = 0; number < kThreads; ++number)
    threads.emplace_back([&, number] {
      std::mt19937 random(static_cast<unsigned>(number));
      std::vector<std::pair<char*, std::size_t>> mine;
      for (int step = 0; step < 6000; ++step) {
        if (mine.size() < 100 || random() % 2 == 0) {
          const std::size_t size = 2 + random() % 600;
          auto* const block = static_cast<char*>(heap.allocate(size));
          std::memset(block, static_cast<int>(size), size);
          mine.emplace_back(block, size);
          continue;
        }
        const std::size_t which = random() % mine.size();
        const auto [block, size] = mine[which];
        if (block[0] != static_cast<char>(size) || block[size - 1] != static_cast<char>(size))
          wrong += 1;
        if (random() % 2 == 0) continue;
        heap.release(block);
        mine[which] = mine.back();
        mine.pop_back();
      }
      for (const auto& [block, size] : mine) heap.release(block);
    });
  for (int i = 0; i < 10; ++i) {
    char* const block = make("between");
    const pid_t child = ::fork();
    if (child == 0) ::_exit(std::string(block, 7) == "between" ? 0 : 1);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    heap.release(block);
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(heap.statistics().live_objects, 0U);
  EXPECT_GT(heap.statistics().packed, 1000U);
}

TEST(PackedStore, KeepsCopiesAndUsesTheirMemoryAgain) {
  PackedStore store;
  ASSERT_TRUE(store.begin());
  std::array<std::byte, 4096> object{};
  std::vector<Packed> copies;
  for (std::size_t i = 1; i <= object.size(); i += 5) {
    object.fill(static_cast<std::byte>(i));
    copies.push_back(store.put(object.data(), i));
    ASSERT_GT(copies.back(), kNoCopy + 1);
  }
  std::size_t size = 1;
  for (const Packed copy : copies) {
    ASSERT_EQ(store.at(copy)[0], static_cast<std::byte>(size));
    ASSERT_EQ(store.at(copy)[size - 1], static_cast<std::byte>(size));
    size += 5;
  }
  store.drop(copies[10], 51);
  store.drop(copies[11], 56);
  EXPECT_EQ(store.put(object.data(), 60), copies[11]);
  EXPECT_EQ(store.put(object.data(), 49), copies[10]);
  store.end();
}

}  // namespace
}  // namespace pagetrap::guard
