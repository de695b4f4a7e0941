// Short turns: what the kernel was asked for is what it says, where it knows of such a thing.
#include "sys/time_slice.hpp"

#include <sched.h>
#include <sys/utsname.h>

#include <cstdio>
#include <thread>

#include <gtest/gtest.h>

namespace pagetrap::sys {
namespace {

bool kernel_is_at_least(int major, int minor) {
  utsname name{};
  int have_major = 0;
  int have_minor = 0;
  if (::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &have_major, &have_minor) != 2)
    return false;
  return have_major > major || (have_major == major && have_minor >= minor);
}

TEST(TimeSlice, IsTheShortestOfTheThreadThatAsks) {
  if (!kernel_is_at_least(6, 12)) GTEST_SKIP() << "slices are the thread's own from Linux 6.12 on";
  unsigned long long before = 0;
  unsigned long long after = 0;
  int policy = -1;
  std::thread([&] {
    before = turn_of_this_thread();
    ask_for_short_turns();
    after = turn_of_this_thread();
    policy = ::sched_getscheduler(0);
  }).join();
  EXPECT_EQ(policy, ::sched_getscheduler(0));
  if (policy != SCHED_OTHER && policy != SCHED_BATCH)
    GTEST_SKIP() << "another policy, where it has no effect";
  EXPECT_EQ(after, 100'000U);
  EXPECT_NE(before, after);
  EXPECT_EQ(turn_of_this_thread(), before);  // of this thread it is what it was
}

}  // namespace
}  // namespace pagetrap::sys
