// What programs do with memory, under a third of it, however faults are delivered and as whom.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>

#include "support.hpp"

namespace pagetrap::preload::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr unsigned kNobody = 65534;

/// The number before or after `word` in a report's field, as "resident 12.3 MiB".
double field(const std::string& report, const std::string& word) {
  const auto at = report.find(word + " ");
  if (at == std::string::npos) return -1;
  return std::stod(report.substr(at + word.size() + 1));
}

struct Setting {
  const char* name;
  const char* delivery;
  unsigned uid;
};

class Workload : public testing::TestWithParam<std::tuple<Setting, const char*>> {};

TEST_P(Workload, FindsAllRight) {
  const auto& [setting, which] = GetParam();
  if (setting.uid != 0 && geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  if (const std::string reason = why_not(setting.delivery, setting.uid); !reason.empty())
    GTEST_SKIP() << reason;
  const Ran ran =
      run(under("16M", setting.delivery, {workload(), which, "48"}), {.uid = setting.uid});
  EXPECT_EQ(ran.status, 0) << ran.output << ran.errors;
  EXPECT_EQ(ran.output, "all right\n");
  EXPECT_THAT(ran.errors, HasSubstr("at exit: budget 16.0 MiB"));
  EXPECT_GT(field(ran.errors, "evicted"), 1000) << ran.errors;
  EXPECT_EQ(field(ran.errors, "failed"), 0) << ran.errors;
  EXPECT_LE(field(ran.errors, "resident"), 16.0) << ran.errors;
}

INSTANTIATE_TEST_SUITE_P(Memory, Workload,
                         testing::Combine(testing::Values(Setting{"threads", "threads", 0},
                                                          Setting{"signals", "signals", 0},
                                                          Setting{"nobody", "auto", kNobody}),
                                          testing::Values("array", "small_blocks", "threads",
                                                          "forks", "forks_among_threads",
                                                          "system_calls", "mappings",
                                                          "short_threads", "spawns", "noise")),
                         [](const auto& one) {
                           return std::string(std::get<0>(one.param).name) + "_" +
                                  std::get<1>(one.param);
                         });

// What the kernel says, not we: the pages of the mapping that are in memory.
TEST(Memory, StaysWithinTheBudget) {
  if (const std::string reason = why_not("auto"); !reason.empty()) GTEST_SKIP() << reason;
  const Ran ran = run(under("16M", "auto", {workload(), "long_array", "40"}));
  EXPECT_EQ(ran.status, 0) << ran.output << ran.errors;
  EXPECT_LE(field(ran.output, "resident"), 16 * 1024) << ran.output;
  EXPECT_GT(field(ran.output, "resident"), 8 * 1024) << ran.output;
}

TEST(Memory, CountsCompressedPagesIfAsked) {
  if (const std::string reason = why_not("auto"); !reason.empty()) GTEST_SKIP() << reason;
  const Ran ran = run(under("32M=total", "auto", {workload(), "array", "48"}));
  EXPECT_EQ(ran.status, 0) << ran.output << ran.errors;
  EXPECT_THAT(ran.errors, HasSubstr("budget 32.0 MiB in total"));
  EXPECT_LE(field(ran.errors, "resident") + field(ran.errors, "stored"), 32.5) << ran.errors;
}

TEST(Memory, LeavesProgramsAloneThatNeedLess) {
  if (const std::string reason = why_not("auto"); !reason.empty()) GTEST_SKIP() << reason;
  const Ran ran = run(under("64M", "auto", {workload(), "array", "16"}));
  EXPECT_EQ(ran.status, 0) << ran.output << ran.errors;
  EXPECT_THAT(ran.errors, HasSubstr("within the budget"));
}

TEST(Memory, TellsOnASignalAndInAFile) {
  if (const std::string reason = why_not("auto"); !reason.empty()) GTEST_SKIP() << reason;
  std::string file = testing::TempDir() + "pagetrap-report-XXXXXX";
  const int made = mkstemp(file.data());
  ASSERT_GE(made, 0);
  close(made);
  Process process(under("16M", "auto", {workload(), "long_array", "48"}, file), 0);
  std::string report;
  for (int i = 0; i < 200 && report.find("faults") == std::string::npos; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    if (i > 10) process.signal(SIGUSR2);
    std::ifstream in(file);
    report.assign(std::istreambuf_iterator<char>(in), {});
  }
  const Ran ran = process.finish("", 50);
  EXPECT_EQ(ran.status, 0) << ran.output << ran.errors;
  EXPECT_THAT(report, HasSubstr("workload["));
  EXPECT_THAT(report, HasSubstr("faults"));
  EXPECT_THAT(report, Not(HasSubstr("at exit")));
  std::ifstream in(file);
  report.assign(std::istreambuf_iterator<char>(in), {});
  EXPECT_THAT(report, HasSubstr("at exit"));
  unlink(file.c_str());
}

TEST(Memory, ReturnsWhatTheProgramReturns) {
  if (const std::string reason = why_not("auto"); !reason.empty()) GTEST_SKIP() << reason;
  EXPECT_EQ(run(under("64M", "auto", {"/bin/sh", "-c", "exit 41"})).status, 41);
  EXPECT_EQ(run(under("64M", "auto", {"/bin/sh", "-c", "kill -TERM $$"})).status, 128 + 15);
  const Ran missing = run(under("64M", "auto", {"there-is-no-such-program"}));
  EXPECT_EQ(missing.status, 127);
  EXPECT_THAT(missing.errors, HasSubstr("there-is-no-such-program"));
  EXPECT_EQ(run(under("64M", "auto", {"/etc/passwd"})).status, 126);
}

TEST(Memory, RefusesWhatMakesNoSense) {
  for (const char* const size : {"", "lots", "-1", "1.5G", "12Q", "99999999999T", "4K"}) {
    const Ran ran = run({command(), "run", "--memory", size, "--", "/bin/true"});
    EXPECT_EQ(ran.status, 2) << size;
    EXPECT_THAT(ran.errors, HasSubstr("--help")) << size;
  }
  EXPECT_EQ(run({command(), "run", "--", "/bin/true"}).status, 2);
  EXPECT_EQ(run({command(), "run", "--memory", "64M"}).status, 2);
  EXPECT_EQ(
      run({command(), "run", "--memory", "64M", "--report-signal", "NONSENSE", "--", "/bin/true"})
          .status,
      2);
}

// An ordinary user may not have faults inside system calls, unless the machine is set up for it.
TEST(Memory, SaysWhatIsMissing) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  const Ran ran = run(under("64M", "threads", {"/bin/true"}), {.uid = kNobody});
  if (ran.status == 0) GTEST_SKIP() << "every user may have such faults here";
  EXPECT_EQ(ran.status, 3);
  EXPECT_THAT(ran.errors, HasSubstr("unprivileged_userfaultfd"));
}

}  // namespace
}  // namespace pagetrap::preload::test
