// What no image can have: each is named in one line, the process goes on unharmed, and it is saved
// as soon as the thing is gone.
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "checkpoint/process/support.hpp"

namespace pagetrap::checkpoint {
namespace {

class Refusal : public ::testing::TestWithParam<const char*> {};

TEST_P(Refusal, NamesTheObstacle) {
  Subject subject(GetParam());
  std::string why;
  if (!subject.is_ready(why)) GTEST_SKIP() << why;
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  for (int turn = 0; turn < 2; ++turn) {
    const auto saved = saver->checkpoint();
    ASSERT_FALSE(saved);
    EXPECT_EQ(saved.error().number, ENOTSUP) << describe(saved.error());
    EXPECT_EQ(joined(saver->refusals()), read_file(subject.file("line")) + "\n");
  }
  if (std::string(GetParam()).starts_with("obstacle")) {
    subject.tell("take-away");
    ASSERT_TRUE(wait_for_file(subject.file("taken-away"), subject.id()));
    EXPECT_TRUE(worked(saver->checkpoint(), saver->refusals())) << "the obstacle is gone";
  }
  EXPECT_EQ(subject.finish(), "right");
}

std::string name_of_obstacle(const ::testing::TestParamInfo<const char*>& info) {
  return info.param;
}

INSTANTIATE_TEST_SUITE_P(Sockets, Refusal,
                         ::testing::Values("obstacle_tcp", "obstacle_tcp_listening",
                                           "obstacle_tcp_connected", "obstacle_tcp6",
                                           "obstacle_udp", "obstacle_socket_pair",
                                           "obstacle_unix_listening", "obstacle_unix_abstract",
                                           "obstacle_netlink"),
                         name_of_obstacle);
INSTANTIATE_TEST_SUITE_P(Processes, Refusal,
                         ::testing::Values("obstacle_child", "obstacle_zombie",
                                           "obstacle_pipe_to_another", "obstacle_trap_ignored",
                                           "obstacle_processor_timer", "forever_seccomp",
                                           "forever_network", "forever_mounts", "forever_root"),
                         name_of_obstacle);
INSTANTIATE_TEST_SUITE_P(Descriptors, Refusal,
                         ::testing::Values("obstacle_fifo", "obstacle_device",
                                           "obstacle_block_device", "obstacle_deleted_file",
                                           "obstacle_replaced_file", "obstacle_flock",
                                           "obstacle_record_lock", "obstacle_async",
                                           "obstacle_closed_watch", "obstacle_inotify",
                                           "obstacle_fanotify", "obstacle_userfaultfd",
                                           "obstacle_perf", "obstacle_pidfd", "obstacle_io_uring"),
                         name_of_obstacle);
INSTANTIATE_TEST_SUITE_P(Mappings, Refusal,
                         ::testing::Values("obstacle_shared_file", "obstacle_shared_deleted_file",
                                           "obstacle_sysv", "obstacle_protection_key",
                                           "obstacle_huge_pages", "obstacle_aio"),
                         name_of_obstacle);

TEST(Refusals, AnotherTracer) {
  Subject subject("one_thread");
  std::string why;
  ASSERT_TRUE(subject.is_ready(why));
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  std::array<int, 2> go{};
  ASSERT_EQ(::pipe(go.data()), 0);
  const pid_t debugger = ::fork();
  if (debugger == 0) {
    char byte = 0;
    const bool traced = ::ptrace(PTRACE_SEIZE, subject.id(), nullptr, nullptr) == 0;
    subject.tell(traced ? "traced" : "not-traced");
    ::close(go[1]);
    static_cast<void>(!::read(go[0], &byte, 1));
    ::_exit(0);
  }
  ASSERT_TRUE(wait_for_file(subject.file("traced"), subject.id()));
  const auto saved = saver->checkpoint();
  ASSERT_FALSE(saved);
  EXPECT_EQ(saved.error().number, EPERM);
  EXPECT_EQ(joined(saver->refusals()).find("thread " + std::to_string(subject.id())), 0U)
      << joined(saver->refusals());
  EXPECT_NE(joined(saver->refusals()).find("traced by process " + std::to_string(debugger)),
            std::string::npos)
      << joined(saver->refusals());
  ::close(go[1]);
  ::waitpid(debugger, nullptr, 0);
  EXPECT_TRUE(worked(saver->checkpoint(), saver->refusals())) << "it is gone";
  EXPECT_EQ(subject.finish(), "right");
  ::close(go[0]);
}

TEST(Refusals, TheFirstThreadHasEnded) {
  Subject subject("first_thread_ended");
  std::string why;
  ASSERT_TRUE(subject.is_ready(why));
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  const auto saved = saver->checkpoint();
  ASSERT_FALSE(saved);
  EXPECT_EQ(saved.error().number, ENOTSUP) << describe(saved.error());
  EXPECT_EQ(joined(saver->refusals()),
            "thread " + std::to_string(subject.id()) + ": the first thread has ended\n");
  EXPECT_EQ(subject.finish(), "right");
}

}  // namespace
}  // namespace pagetrap::checkpoint
