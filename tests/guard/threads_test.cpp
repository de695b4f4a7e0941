// Threads of unmodified programs: an overflow of any stack is reported, and nothing else changes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "guarded.hpp"

namespace pagetrap::guard::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

constexpr int kReported = 66;

std::string program() { return PAGETRAP_GUARD_THREADS; }

class Overflows : public testing::TestWithParam<const char*> {};

TEST_P(Overflows, AreReported) {
  const std::string place = GetParam();
  const Guarded ran = run_guarded({}, {program(), place});
  EXPECT_EQ(ran.ran.status, kReported) << ran.ran.output << ran.ran.errors;
  ASSERT_EQ(ran.reports.size(), 1U) << ran.ran.errors;
  const auto& report = ran.reports[0];
  EXPECT_EQ(report["problem"], "stack-overflow");
  EXPECT_EQ(report["by"]["name"], "deep-worker");
  const bool large = place == "in_large_frames";
  const std::size_t functions = large ? 1 : 3;
  EXPECT_EQ(report["stack"]["functions"], functions);
  EXPECT_EQ(report["by"]["stack"].size(), functions);
  EXPECT_GT(report["stack"]["frames"], large ? 50 : 400);
  EXPECT_THAT(ran.ran.errors, HasSubstr("stack overflow: write"));
  EXPECT_THAT(ran.ran.errors, ContainsRegex("by thread [0-9]+ \"deep-worker\""));
  for (const char* const name : {"first_of_three", "second_of_three", "third_of_three"})
    EXPECT_TRUE(large || ran.ran.errors.find(std::string(name) + " (") != std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Guard, Overflows,
                         testing::Values("in_first_thread", "in_pthread", "in_c11_thread",
                                         "in_detached_thread", "in_small_stack", "in_own_stack",
                                         "in_large_frames", "on_small_signal_stack",
                                         "after_own_signal_stack", "in_last_destructor",
                                         "after_many_threads", "in_forked_child"),
                         [](const auto& one) { return std::string(one.param); });

TEST(GuardOverflow, InEveryStrength) {
  for (const char* const strength : {"=page", "=page+cold", "=alias", "=sample"}) {
    const Guarded ran = run_guarded({strength}, {program(), "in_pthread"});
    EXPECT_EQ(ran.ran.status, kReported) << strength << ran.ran.errors;
    EXPECT_EQ(ran.reports.size(), 1U);
  }
}

TEST(GuardOverflow, AProgramThatRecoversGoesOn) {
  const Words words{program(), "recovering"};
  const Ran plain = preload::test::run(words);
  ASSERT_EQ(plain.status, 0) << plain.errors;
  const Guarded ran = run_guarded({}, words);
  EXPECT_EQ(ran.ran.status, 0) << ran.ran.errors;
  EXPECT_EQ(ran.ran.output, plain.output);
  ASSERT_EQ(ran.reports.size(), 3U);
  for (const auto& report : ran.reports) EXPECT_EQ(report["problem"], "stack-overflow");
}

class GoOn : public testing::TestWithParam<const char*> {};

TEST_P(GoOn, AsWithout) {
  const Words words{program(), GetParam()};
  const Ran plain = preload::test::run(words);
  ASSERT_EQ(plain.status, 0) << plain.output << plain.errors;
  for (const char* const strength : {"=page", "=page+cold", "=alias", "=sample"}) {
    const Guarded ran = run_guarded({strength}, words);
    EXPECT_EQ(ran.ran.status, 0) << strength << ran.ran.errors;
    EXPECT_EQ(ran.ran.output, plain.output);
    EXPECT_EQ(ran.ran.errors, "");
    EXPECT_TRUE(ran.reports.empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Guard, GoOn,
                         testing::Values("signal_stacks", "stacks_are_as_long_as_asked_for",
                                         "ends_of_threads", "many_short_threads"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace pagetrap::guard::test
