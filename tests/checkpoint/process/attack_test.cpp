// What may go wrong during a checkpoint: the process goes on in any case.
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>
#include <thread>

#include "checkpoint/process/support.hpp"

namespace pagetrap::checkpoint {
namespace {

void sleep_us(std::uint64_t microseconds) {
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
}

std::string state_of(pid_t process) {
  const std::string text = read_file("/proc/" + std::to_string(process) + "/status");
  const std::size_t at = text.find("State:");
  return at == std::string::npos ? "" : text.substr(at + 7, 1);
}

// Processes with this memory map's name that are nobody's but a cut's.
int copies_of(const std::string& folder) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (read_file(entry.path() / "cmdline").find(folder) != std::string::npos &&
        state_of(std::stoi(name)) != "Z")
      ++count;
  }
  return count;
}

// Has it saved by a child of ours, which is no parent of it. Returns the child.
pid_t save_from_elsewhere(const Subject& subject, int times) {
  const pid_t saver = ::fork();
  if (saver != 0) return saver;
  auto attached = ProcessSaver::attach(subject.id(), subject.saving());
  if (!attached) ::_exit(2);
  for (int i = 0; i < times; ++i) {
    if (!attached->checkpoint({.full = i % 3 == 0})) ::_exit(3);
    if (i == 0) subject.tell("saved");
  }
  ::_exit(0);
}

TEST(Attack, SignalStorm) {
  Subject subject("busy_signals");
  std::string why;
  ASSERT_TRUE(subject.is_ready(why));
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  for (int i = 0; i < 200; ++i)
    ASSERT_TRUE(worked(saver->checkpoint({.full = i % 20 == 0}), saver->refusals())) << i;
  EXPECT_EQ(subject.finish(), "right");
}

TEST(Attack, ThreadsThatComeAndGo) {
  Subject subject("busy_threads");
  std::string why;
  ASSERT_TRUE(subject.is_ready(why));
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  for (int i = 0; i < 60; ++i)
    ASSERT_TRUE(worked(saver->checkpoint({.full = i % 20 == 0}), saver->refusals())) << i;
  EXPECT_EQ(subject.finish(), "right");
  if (::getuid() != 0) return;
  for (const RestartMode mode : kModes)
    EXPECT_EQ(restart_and_finish(subject, mode), "right") << name_of(mode);
}

TEST(Attack, Exec) {
  Subject subject("busy_exec");
  std::string why;
  ASSERT_TRUE(subject.is_ready(why));
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  int taken = 0;
  for (int i = 0; i < 200; ++i) {
    const auto saved = saver->checkpoint();
    taken += saved ? 1 : 0;
    if (saved) continue;
    // It is another program by now, or is just becoming one: the next cut is of that.
    EXPECT_NE(saved.error().number, ENOTSUP) << joined(saver->refusals());
    EXPECT_TRUE(saved.error().number == EAGAIN || saved.error().number == ESRCH ||
                saved.error().number == EFAULT || saved.error().number == EINTR ||
                saved.error().number == EIO)
        << describe(saved.error()) << " " << joined(saver->refusals());
    ASSERT_NE(state_of(subject.id()), "Z") << i << ": " << describe(saved.error());
  }
  EXPECT_GT(taken, 20);
  EXPECT_EQ(subject.finish(), "right");
}

TEST(Attack, ItEndsDuringACut) {
  std::mt19937 random(1991);
  for (int i = 0; i < 12; ++i) {
    Subject subject("busy_ends");
    std::string why;
    ASSERT_TRUE(subject.is_ready(why));
    auto saver = ProcessSaver::attach(subject.id(), subject.saving());
    ASSERT_TRUE(worked(saver));
    ASSERT_TRUE(worked(saver->checkpoint(), saver->refusals()));
    const bool killed = i % 2 == 1;
    std::thread ender([&] {
      sleep_us(random() % 3000);
      if (killed) {
        ::kill(subject.id(), SIGKILL);
      } else {
        subject.tell("end");
      }
    });
    bool ended = false;
    for (int turn = 0; turn < 1000 && !ended; ++turn) {
      const auto saved = saver->checkpoint();
      ended = !saved;
    }
    ender.join();
    EXPECT_TRUE(ended);
    const int status = subject.wait();
    ASSERT_NE(status, -1) << "its end is for its parent to see";
    if (killed) {
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    } else {
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 42) << status;
    }
  }
}

TEST(Attack, TheSaverIsKilled) {
  std::mt19937 random(1992);
  Subject subject("busy_signals");
  std::string why;
  ASSERT_TRUE(subject.is_ready(why));
  const std::string folder = std::filesystem::path(subject.images()).parent_path();
  for (int i = 0; i < 40; ++i) {
    const pid_t saver = save_from_elsewhere(subject, 1000);
    ASSERT_TRUE(wait_for_file(subject.file("saved"), saver));
    subject.forget("saved");
    sleep_us(random() % 15'000);
    ::kill(saver, SIGKILL);
    ASSERT_EQ(::waitpid(saver, nullptr, 0), saver);
    // One that nobody traces ends by itself, after a second.
    for (int turn = 0; turn < 3000 && copies_of(folder) != 1; ++turn) sleep_us(1000);
    ASSERT_EQ(copies_of(folder), 1)
        << "round " << i << ": the process, and no copy of it; it is " << state_of(subject.id());
    ASSERT_NE(state_of(subject.id()), "t") << i;
    ASSERT_NE(state_of(subject.id()), "T") << i;
  }
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  EXPECT_TRUE(worked(saver->checkpoint(), saver->refusals()));
  EXPECT_EQ(subject.finish(), "right");
}

TEST(Attack, AStoppedProcess) {
  Subject subject("busy_counting");
  std::string why;
  ASSERT_TRUE(subject.is_ready(why));
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  ::kill(subject.id(), SIGSTOP);
  while (state_of(subject.id()) != "T") sleep_us(1000);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(worked(saver->checkpoint(), saver->refusals()));
  sleep_us(20'000);
  EXPECT_EQ(state_of(subject.id()), "T") << "it stays stopped";
  ::kill(subject.id(), SIGCONT);
  // Stopped and continued at any moment of a cut.
  std::atomic<bool> over{false};
  std::thread stopper([&] {
    while (!over) {
      ::kill(subject.id(), SIGSTOP);
      sleep_us(700);
      ::kill(subject.id(), SIGCONT);
      sleep_us(1100);
    }
  });
  for (int i = 0; i < 100; ++i) {
    const auto saved = saver->checkpoint();
    EXPECT_TRUE(worked(saved, saver->refusals())) << i;
  }
  over = true;
  stopper.join();
  ::kill(subject.id(), SIGCONT);
  EXPECT_EQ(subject.finish(), "right");
}

TEST(Attack, NoDirectory) {
  Subject subject("two_threads");
  std::string why;
  ASSERT_TRUE(subject.is_ready(why));
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  ASSERT_TRUE(worked(saver->checkpoint(), saver->refusals()));
  std::filesystem::remove_all(subject.images());
  const auto saved = saver->checkpoint();
  ASSERT_FALSE(saved);
  EXPECT_EQ(saved.error().number, ENOENT) << describe(saved.error());
  std::filesystem::create_directory(subject.images());
  const auto again = saver->checkpoint();
  ASSERT_TRUE(worked(again, saver->refusals()));
  EXPECT_EQ(again->parent, ImageId{}) << "what it would build on is gone";
  EXPECT_EQ(subject.finish(), "right");
  if (::getuid() == 0) {
    EXPECT_EQ(restart_and_finish(subject, RestartMode::eager), "right");
  }
}

TEST(Attack, AFullDisk) {
  Subject subject("heap");
  std::string why;
  ASSERT_TRUE(subject.is_ready(why));
  std::filesystem::create_directory(subject.images());
  if (::mount("none", subject.images().c_str(), "tmpfs", 0, "size=256k") != 0)
    GTEST_SKIP() << "no disk of our own to fill";
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  for (int i = 0; i < 3; ++i) {
    const auto saved = saver->checkpoint();
    ASSERT_FALSE(saved);
    EXPECT_EQ(saved.error().number, ENOSPC) << describe(saved.error());
    EXPECT_TRUE(std::filesystem::is_empty(subject.images())) << "nothing is left of it";
  }
  ASSERT_EQ(::mount("none", subject.images().c_str(), "tmpfs", MS_REMOUNT, "size=64m"), 0);
  EXPECT_TRUE(worked(saver->checkpoint(), saver->refusals()));
  EXPECT_EQ(subject.finish(), "right");
  EXPECT_EQ(restart_and_finish(subject, RestartMode::lazy), "right");
  ::umount2(subject.images().c_str(), MNT_DETACH);
}

TEST(Attack, Limits) {
  Subject subject("two_threads");
  std::string why;
  ASSERT_TRUE(subject.is_ready(why));
  // The process may open nothing more, and make no process.
  rlimit before{};
  ASSERT_EQ(::prlimit(subject.id(), RLIMIT_NPROC, nullptr, &before), 0);
  const rlimit none{1, before.rlim_max};
  ASSERT_EQ(::prlimit(subject.id(), RLIMIT_NPROC, &none, nullptr), 0);
  const rlimit files{3, 4096};
  ASSERT_EQ(::prlimit(subject.id(), RLIMIT_NOFILE, &files, nullptr), 0);
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(worked(saver->checkpoint(), saver->refusals())) << i;
  const rlimit enough{before.rlim_cur, before.rlim_max};
  ASSERT_EQ(::prlimit(subject.id(), RLIMIT_NPROC, &enough, nullptr), 0);
  const rlimit more{1000, 4096};
  ASSERT_EQ(::prlimit(subject.id(), RLIMIT_NOFILE, &more, nullptr), 0);
  EXPECT_TRUE(worked(saver->checkpoint(), saver->refusals()));
  EXPECT_EQ(subject.finish(), "right");
}

}  // namespace
}  // namespace pagetrap::checkpoint
