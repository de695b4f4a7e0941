// Functions and lines of a report: what they cost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "guarded.hpp"

namespace pagetrap::guard::test {
namespace {

double seconds_of_children() {
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Of processor time, which other programs do not lengthen much. Debug information of the libraries
// that the symboliser itself is linked with would take longer.
TEST(GuardReport, IsThereWithin200Milliseconds) {
  const double before = seconds_of_children();
  const Guarded ran = run_guarded({}, {cells(), "read_after_free_1"});
  EXPECT_LT(seconds_of_children() - before, 0.2);
  EXPECT_THAT(ran.ran.errors, testing::HasSubstr("scenarios.cpp:"));
}

TEST(GuardSymbols, WhatCannotBeReadHasNoName) {
  const Ran ran = preload::test::run({preload::test::command(), "symbols"},
                                     {.input = "/no/such/module 0x10\n- 0x10\nnonsense\n"});
  EXPECT_EQ(ran.status, 0) << ran.errors;
  EXPECT_EQ(ran.output, "\n\n\n");
  EXPECT_EQ(ran.errors, "");
}

}  // namespace
}  // namespace pagetrap::guard::test
