// One mistake each through the preload shim, with its twin that makes none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "guarded.hpp"

namespace pagetrap::guard::test {
namespace {

using testing::HasSubstr;

constexpr int kReported = 66;

struct Expected {
  const char* scenario;
  const char* problem;  // one of its names, or a |-separated list
  const char* words;    // in the report's first line
};

class Scenarios : public testing::TestWithParam<std::tuple<Expected, const char*>> {};

// Cold: nearly every block is packed, and faults come to the thread.
Words options_for(const std::string& mechanism) {
  if (mechanism == "cold") return {"=page+cold", "--guard-hot", "4K"};
  return {"--guard-mechanism", mechanism};
}

TEST_P(Scenarios, AreCaught) {
  const auto& [expected, mechanism] = GetParam();
  const Guarded bad = run_guarded(options_for(mechanism), {cells(), expected.scenario});
  EXPECT_EQ(bad.ran.status, kReported) << bad.ran.output << bad.ran.errors;
  ASSERT_EQ(bad.reports.size(), 1U) << bad.ran.errors;
  EXPECT_EQ(bad.reports[0]["problem"], expected.problem) << bad.ran.errors;
  EXPECT_THAT(bad.ran.errors, HasSubstr(expected.words));
  EXPECT_THAT(bad.ran.errors, HasSubstr("scenarios.cpp:")) << "no lines in it";
}

TEST_P(Scenarios, TheirTwinsAreSilent) {
  const auto& [expected, mechanism] = GetParam();
  const Guarded good = run_guarded(options_for(mechanism), {cells(), expected.scenario, "good"});
  EXPECT_EQ(good.ran.status, 0) << good.ran.errors;
  EXPECT_THAT(good.ran.output, HasSubstr("came to its end"));
  EXPECT_EQ(good.ran.errors, "");
  EXPECT_TRUE(good.reports.empty());
}

constexpr Expected kAll[] = {
    {"read_after_free_0", "use-after-free", "read of 1 byte"},
    {"write_after_free_0", "use-after-free", "5 bytes into a 21-byte block that was freed"},
    {"read_after_free_1", "use-after-free", "5 bytes into a 21-byte block that was freed"},
    {"write_after_free_1", "use-after-free", "write of 1 byte"},
    {"read_after_free_1000", "use-after-free", "5 bytes into a 21-byte block that was freed"},
    {"write_after_free_1000", "use-after-free", "5 bytes into a 21-byte block that was freed"},
    {"read_after_free_1000000", "use-after-free", "5 bytes into a 21-byte block that was freed"},
    {"after_closing_all", "use-after-free", "5 bytes into a 21-byte block that was freed"},
    {"after_realloc", "use-after-free", "3 bytes into a 21-byte block that was freed"},
    {"after_free_large", "use-after-free", "1234567 bytes into a 3000000-byte block"},
    {"after_free_in_thread", "use-after-free", "5 bytes into a 21-byte block that was freed"},
    {"after_fork_in_child", "use-after-free", "write of 1 byte"},
    {"after_fork_in_parent", "use-after-free", "read of 1 byte"},
    {"double_free", "double-free", "free() at"},
    {"interior_free", "invalid-free", "16 bytes into a 64-byte block"},
    {"stack_free", "invalid-free", "near no block"},
    {"global_free", "invalid-free", "near no block"},
    {"realloc_of_freed", "double-free", "realloc() at"},
    {"free_of_new", "wrong-function", "which operator new[] allocated"},
    {"delete_of_new_array", "wrong-function", "operator delete()"},
    {"wrong_sized_delete", "wrong-size", "told 32 bytes"},
    {"memcpy_over", "overflow", "after a 40-byte block"},
    {"strcpy_over", "overflow", "after a 16-byte block"},
    {"strlen_over", "overflow", "1 byte after a 32-byte block"},
    {"qsort_over", "overflow", "after a 40-byte block"},
    {"read_over", "overflow", "read() told 100 bytes"},
    {"read_freed", "use-after-free", "at the start of a 40-byte block that was freed"},
    {"recv_over", "overflow", "recv() told 100 bytes"},
    {"readv_over", "overflow", "readv() told 60 bytes"},
    {"write_freed", "use-after-free", "write() told 40 bytes"},
    {"pread_over", "overflow", "pread() told 100 bytes"},
    {"sendmsg_over", "overflow", "sendmsg() told 60 bytes"},
    {"getsockname_over", "overflow", "getsockname() told 16 bytes"},
    {"poll_over", "overflow", "poll() told 24 bytes"},
    {"select_freed", "use-after-free", "select() told 8 bytes"},
    {"stat_over", "overflow", "stat() told 144 bytes"},
    {"open_freed", "use-after-free", "open() told 1 byte at"},
    {"unlink_without_end", "overflow", "1 byte after a 16-byte block"},
    {"raw_read_over", "overflow", "syscall: read() told 100 bytes"},
    {"raw_writev_freed", "use-after-free", "at the start of a 40-byte block that was freed"},
    {"ioctl_over", "overflow", "ioctl() told 8 bytes"},
};

INSTANTIATE_TEST_SUITE_P(Guard, Scenarios,
                         testing::Combine(testing::ValuesIn(kAll),
                                          testing::Values("userfaultfd", "cold", "markers",
                                                          "mprotect")),
                         [](const auto& one) {
                           return std::string(std::get<0>(one.param).scenario) + "_" +
                                  std::get<1>(one.param);
                         });

TEST(GuardAlias, CatchesWhatIsOfTime) {
  for (const Expected& expected : kAll) {
    const std::string problem = expected.problem;
    if (problem == "overflow") continue;
    const Guarded bad = run_guarded({"=alias"}, {cells(), expected.scenario});
    EXPECT_EQ(bad.ran.status, kReported) << expected.scenario << bad.ran.errors;
    ASSERT_EQ(bad.reports.size(), 1U) << expected.scenario;
    EXPECT_EQ(bad.reports[0]["problem"], problem) << expected.scenario;
    EXPECT_THAT(bad.ran.errors, HasSubstr(expected.words));
  }
}

TEST(GuardAlias, TwinsAreSilent) {
  for (const char* const revoke : {"at-once", "batched", "lazy"}) {
    for (const Expected& expected : kAll) {
      const Guarded good =
          run_guarded({"=alias", "--guard-revoke", revoke}, {cells(), expected.scenario, "good"});
      EXPECT_EQ(good.ran.status, 0) << expected.scenario << good.ran.errors;
      EXPECT_EQ(good.ran.errors, "");
    }
  }
}

TEST(Guard, CallsThatSayMoreThanTheyUseAreSilent) {
  for (const char* const scenario : {"ioctl_of_flags", "epoll_without_event"}) {
    const Guarded ran = run_guarded({}, {cells(), scenario});
    EXPECT_EQ(ran.ran.status, 0) << ran.ran.errors;
    EXPECT_TRUE(ran.reports.empty()) << ran.reports[0];
  }
}

TEST(Guard, TheCLibrarysOwnBlocksAreThereWithinFork) {
  for (const char* const strength : {"=page", "=page+cold", "=alias"}) {
    const Guarded ran = run_guarded({strength, "--guard-hot", "512K"}, {cells(), "idle_streams"});
    EXPECT_EQ(ran.ran.status, 0) << strength << ran.ran.errors;
  }
}

TEST(Guard, AtomicMembersAreAligned) {
  EXPECT_EQ(run_guarded({}, {cells(), "atomic_member"}).ran.status, 0);
}

TEST(Guard, AForeignFaultKillsAsItWouldHave) {
  const Guarded ran = run_guarded({}, {"/bin/sh", "-c", "kill -SEGV $$"});
  EXPECT_EQ(ran.ran.status, 128 + 11);
  EXPECT_TRUE(ran.reports.empty());
}

TEST(Guard, TheExitCodeCanBeChosen) {
  EXPECT_EQ(run_guarded({"--guard-exit-code", "99"}, {cells(), "double_free"}).ran.status, 99);
}

TEST(Guard, GoesOnIfAsked) {
  for (const char* const scenario : {"double_free", "read_after_free_1", "write_after_free_1"}) {
    const Guarded ran = run_guarded({"--guard-continue"}, {cells(), scenario});
    EXPECT_EQ(ran.ran.status, 0) << ran.ran.errors;
    EXPECT_THAT(ran.ran.output, HasSubstr("came to its end"));
    EXPECT_EQ(ran.reports.size(), 1U);
  }
}

TEST(Guard, ADebuggerIsCalled) {
  const Guarded ran = run_guarded({"--guard-debugger", "cat /proc/%p/comm; echo looked at %p"},
                                  {cells(), "double_free"});
  EXPECT_EQ(ran.ran.status, kReported);
  EXPECT_THAT(ran.ran.output, HasSubstr("looked at "));
}

TEST(Guard, SamplingCatchesItsShare) {
  const Words options{"=sample", "--guard-rate",      "100", "--guard-continue", "--guard-reports",
                      "100000",  "--guard-no-symbols"};
  const Guarded ran = run_guarded(options, {cells(), "many_reads_after_free"});
  EXPECT_EQ(ran.ran.status, 0) << ran.ran.errors.substr(0, 1000);
  EXPECT_GT(ran.reports.size(), 100U);  // 200 of 20 000 are expected, with a deviation of 11
  EXPECT_LT(ran.reports.size(), 300U);
  for (const auto& report : ran.reports) EXPECT_EQ(report["problem"], "use-after-free");
  const Guarded good = run_guarded(options, {cells(), "many_reads_after_free", "good"});
  EXPECT_EQ(good.ran.status, 0);
  EXPECT_TRUE(good.reports.empty());
}

}  // namespace
}  // namespace pagetrap::guard::test
