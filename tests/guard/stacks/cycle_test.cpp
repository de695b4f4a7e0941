#include "guard/stacks/cycle.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pagetrap::guard {
namespace {

// A letter is a function.
Cycle cycle_in(const std::string& functions) {
  std::vector<StackFrame> frames;
  for (const char function : functions)
    frames.push_back({frames.size(), static_cast<std::uintptr_t>(function), 0});
  return find_cycle(frames);
}

std::string repeat(const std::string& what, int times) {
  std::string all;
  while (times-- > 0) all += what;
  return all;
}

TEST(CycleTest, OneFunction) {
  const Cycle cycle = cycle_in(repeat("a", 100));
  EXPECT_EQ(cycle.period, 1U);
  EXPECT_EQ(cycle.begin, 0U);
  EXPECT_EQ(cycle.frames, 100U);
}

TEST(CycleTest, ThreeFunctionsAfterWhatTheyCalled) {
  const Cycle cycle = cycle_in("xyz" + repeat("abc", 100));
  EXPECT_EQ(cycle.period, 3U);
  EXPECT_EQ(cycle.begin, 3U);
}

TEST(CycleTest, BeforeTheBottomOfTheStack) {
  const Cycle cycle = cycle_in("x" + repeat("ab", 10) + "cdefgh");
  EXPECT_EQ(cycle.period, 2U);
  EXPECT_EQ(cycle.frames, 20U);
}

TEST(CycleTest, TheShortestThatHolds) {
  EXPECT_EQ(cycle_in(repeat("aab", 50)).period, 3U);
  EXPECT_EQ(cycle_in(repeat("abab", 50)).period, 2U);
}

TEST(CycleTest, None) {
  EXPECT_EQ(cycle_in("").period, 0U);
  EXPECT_EQ(cycle_in("a").period, 0U);
  EXPECT_EQ(cycle_in("abcdefghijklmnop").period, 0U);
  EXPECT_EQ(cycle_in("abab").period, 0U);
  // A few repetitions in a long stack are not why it overflowed.
  EXPECT_EQ(cycle_in("aaabcdefghijklmnopqrstuvw").period, 0U);
}

}  // namespace
}  // namespace pagetrap::guard
