// What a process consists of, one thing after the other: it is there after a restart, and the
// process that was saved goes on unharmed.
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/process/support.hpp"

namespace pagetrap::checkpoint {
namespace {

class Scope : public ::testing::TestWithParam<const char*> {};

TEST_P(Scope, IsThereAfterARestart) {
  if (::getuid() != 0) GTEST_SKIP() << "restarts under the same process id, and lazy ones";
  Subject subject(GetParam());
  std::string why;
  if (!subject.is_ready(why)) GTEST_SKIP() << why;
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  // A full image through a frozen copy; then what is left, which is copied in the stop.
  for (int turn = 0; turn < 2; ++turn)
    ASSERT_TRUE(worked(saver->checkpoint(), saver->refusals())) << "turn " << turn;
  EXPECT_EQ(subject.finish(), "right") << "the process that was saved";
  subject.kill();
  for (const RestartMode mode : kModes)
    EXPECT_EQ(restart_and_finish(subject, mode), "right") << name_of(mode);
}

std::string name_of_scenario(const ::testing::TestParamInfo<const char*>& info) {
  return info.param;
}

INSTANTIATE_TEST_SUITE_P(Files, Scope,
                         ::testing::Values("regular_files", "directories", "paths_only", "devices",
                                           "many_descriptors"),
                         name_of_scenario);
INSTANTIATE_TEST_SUITE_P(Pipes, Scope,
                         ::testing::Values("pipes", "full_pipe", "half_closed_pipes", "packets",
                                           "large_pipe"),
                         name_of_scenario);
INSTANTIATE_TEST_SUITE_P(Descriptors, Scope,
                         ::testing::Values("eventfds", "timerfds", "signalfds", "epolls",
                                           "nested_epolls", "edges"),
                         name_of_scenario);
INSTANTIATE_TEST_SUITE_P(Memory, Scope,
                         ::testing::Values("protections", "changed_files", "deleted_files",
                                           "advice", "sparse", "stacks", "heap", "libraries",
                                           "memfds", "seals", "shared_memory"),
                         name_of_scenario);
INSTANTIATE_TEST_SUITE_P(Signals, Scope,
                         ::testing::Values("dispositions", "pending_signals", "alternate_stack",
                                           "interval_timers", "posix_timers", "thread_timers",
                                           "pending_timers"),
                         name_of_scenario);
INSTANTIATE_TEST_SUITE_P(Threads, Scope,
                         ::testing::Values("one_thread", "two_threads", "many_threads",
                                           "thread_properties", "robust_mutex", "cancellation",
                                           "registers", "restartable_sequences",
                                           "critical_section"),
                         name_of_scenario);
INSTANTIATE_TEST_SUITE_P(Blocked, Scope,
                         ::testing::Values("in_futex", "in_nanosleep", "in_absolute_sleep",
                                           "in_poll", "in_poll_with_timeout", "in_epoll_wait",
                                           "in_sigsuspend", "in_sigwaitinfo", "in_read",
                                           "in_sem_wait", "in_pause"),
                         name_of_scenario);
INSTANTIATE_TEST_SUITE_P(Process, Scope,
                         ::testing::Values("attributes", "capabilities", "limits", "identity",
                                           "new_children", "clocks", "scheduling"),
                         name_of_scenario);

}  // namespace
}  // namespace pagetrap::checkpoint
