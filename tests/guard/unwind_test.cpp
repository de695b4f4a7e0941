#include "guard/unwind/unwind.hpp"

#include <dlfcn.h>
#include <execinfo.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <thread>

#include "guard/unwind/capture.hpp"

namespace pagetrap::guard {
namespace {

// Both stacks of one place, without the frames of whoever takes them.
struct Both {
  std::vector<std::uintptr_t> ours;
  std::vector<std::uintptr_t> theirs;  // glibc's, by _Unwind_Backtrace
};

[[gnu::noinline]] Both take_both() {
  Both both;
  const Frames frames = stack_from(__builtin_frame_address(0));
  both.ours.assign(frames.addresses.begin(),
                   frames.addresses.begin() + static_cast<std::ptrdiff_t>(frames.count));
  std::array<void*, 64> found{};
  const int count = ::backtrace(found.data(), static_cast<int>(found.size()));
  for (int i = 1; i < count; ++i)
    both.theirs.push_back(reinterpret_cast<std::uintptr_t>(found[static_cast<std::size_t>(i)]));
  // A sanitizer's backtrace() is a frame more.
  if (SANITIZED != 0 && !both.theirs.empty()) both.theirs.erase(both.theirs.begin());
  return both;
}

void expect_same(Both both) {
  ASSERT_GE(both.ours.size(), 3U);
  if (both.theirs.size() > both.ours.size()) both.theirs.resize(both.ours.size());
  EXPECT_EQ(both.ours, both.theirs);
}

[[gnu::noinline]] Both deeper(int depth) {
  if (depth == 0) return take_both();
  volatile char frame[64];
  frame[0] = static_cast<char>(depth);
  Both both = deeper(depth - 1);
  frame[1] = frame[0];
  return both;
}

TEST(Unwind, AgreesWithTheCLibrary) {
  for (int depth = 0; depth < 12; ++depth) expect_same(deeper(depth));
}

// Debian's C library has no frame pointers.
TEST(Unwind, GoesThroughCodeWithoutFramePointers) {
  static Both both;
  std::array<int, 2> numbers{2, 1};
  std::qsort(numbers.data(), numbers.size(), sizeof(int), [](const void* a, const void* b) {
    both = take_both();
    return *static_cast<const int*>(a) - *static_cast<const int*>(b);
  });
  expect_same(both);
}

TEST(Unwind, InAThread) {
  std::thread([] { expect_same(deeper(3)); }).join();
}

TEST(Unwind, GoesThroughASignalHandler) {
  static Both both;
  struct sigaction action {};
  struct sigaction old {};
  action.sa_handler = [](int) { both = take_both(); };
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &old), 0);
  ASSERT_EQ(::raise(SIGUSR1), 0);
  ASSERT_EQ(::sigaction(SIGUSR1, &old, nullptr), 0);
  // glibc's raise() is on it, and what called it.
  ASSERT_GE(both.ours.size(), 5U);
  const auto shared = std::min(both.ours.size(), both.theirs.size());
  EXPECT_TRUE(std::equal(both.ours.begin() + 2, both.ours.begin() + static_cast<int>(shared),
                         both.theirs.begin() + 2));
}

[[gnu::noinline]] std::uint32_t remembered() {
  static Capture mine;
  return capture(__builtin_frame_address(0), mine.allocations, mine.known);
}

// What is taken from the last walk has to be what this walk would have met.
struct Wanderer {
  Capture mine;
  std::uint32_t random = 1;
  std::size_t wrong = 0;
  std::size_t taken = 0;

  std::uint32_t any(std::uint32_t below) {
    random = random * 1664525 + 1013904223;
    return (random >> 16) % below;
  }
  [[gnu::noinline]] void look() {
    const void* const here = __builtin_frame_address(0);
    LastWalk& last = any(2) == 0 ? mine.allocations : mine.releases;
    const Frames by_capture = recall_stack(capture(here, last, mine.known));
    Frames by_walk = stack_from(here);
    by_walk.count = std::min(by_walk.count, kKeptFrames);
    taken += 1;
    if (by_capture.count != by_walk.count ||
        !std::equal(by_walk.addresses.begin(),
                    by_walk.addresses.begin() + static_cast<std::ptrdiff_t>(by_walk.count),
                    by_capture.addresses.begin()))
      wrong += 1;
  }
  // Three functions with frames of different sizes, one of them of a size that changes.
  [[gnu::noinline]] void left(int depth) {
    wander(depth - 1);
    if (any(3) == 0) look();
    wander(depth - 1);
  }
  [[gnu::noinline]] void right(int depth) {
    volatile char frame[200];
    frame[0] = static_cast<char>(depth);
    wander(depth - 1);
    frame[1] = frame[0];
  }
  [[gnu::noinline]] void changing(int depth) {
    auto* const room = static_cast<volatile char*>(__builtin_alloca(16 + 16 * any(8)));
    room[0] = static_cast<char>(depth);
    wander(depth - 1);
    look();
    room[1] = room[0];
  }
  [[gnu::noinline]] void wander(int depth) {
    if (depth <= 0) return look();
    switch (any(4)) {
      case 0:
        return left(depth);
      case 1:
        right(depth);
        return look();
      case 2:
        return changing(depth);
      default:
        look();
        return right(depth);
    }
  }
};

TEST(Capture, IsWhatAWholeWalkMeets) {
  Wanderer wanderer;
  for (std::uint32_t seed = 1; seed <= 2000; ++seed) {
    wanderer.random = seed;
    wanderer.wander(static_cast<int>(seed % 24));
    ASSERT_EQ(wanderer.wrong, 0U) << "seed " << seed;
  }
  EXPECT_GT(wanderer.taken, 10'000U);
}

// A cache that another thread had: its stack is elsewhere, or in the same place with other frames.
TEST(Capture, OfAnotherThread) {
  Wanderer wanderer;
  for (std::uint32_t seed = 1; seed <= 50; ++seed)
    std::thread([&] {
      wanderer.random = seed;
      wanderer.wander(20);
    }).join();
  EXPECT_EQ(wanderer.wrong, 0U);
}

TEST(Depot, HasEachStackOnce) {
  std::array<std::uint32_t, 3> numbers{};
  for (auto& number : numbers) number = remembered();
  EXPECT_NE(numbers[0], 0U);
  EXPECT_EQ(numbers[0], numbers[1]);
  EXPECT_EQ(numbers[1], numbers[2]);
  const std::uint32_t other = remembered();
  EXPECT_NE(other, numbers[0]);
  const Frames first = recall_stack(numbers[0]);
  const Frames second = recall_stack(other);
  ASSERT_GE(first.count, 3U);
  EXPECT_NE(first.addresses[0], second.addresses[0]);
  EXPECT_EQ(first.addresses[1], second.addresses[1]);
  EXPECT_EQ(recall_stack(0).count, 0U);
}

}  // namespace
}  // namespace pagetrap::guard
