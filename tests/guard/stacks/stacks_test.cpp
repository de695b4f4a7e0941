// Overflows in processes of their own, and what they print.
#include <pagetrap/guard/stacks.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "guard/stacks/endless.hpp"

namespace pagetrap::guard {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

struct Ended {
  int status = 0;
  std::string said;
  [[nodiscard]] bool by(int signal) const {
    return WIFSIGNALED(status) && WTERMSIG(status) == signal;
  }
  [[nodiscard]] bool with(int code) const {
    return WIFEXITED(status) && WEXITSTATUS(status) == code;
  }
};

/// Runs `work` in a child, with SIGSEGV as the system has it.
Ended run(const std::function<void()>& work) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe(ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    ::signal(SIGSEGV, SIG_DFL);
    work();
    ::_exit(0);
  }
  ::close(ends[1]);
  Ended ended;
  std::array<char, 4096> buffer;
  for (ssize_t got = 0; (got = ::read(ends[0], buffer.data(), buffer.size())) > 0;)
    ended.said.append(buffer.data(), static_cast<std::size_t>(got));
  ::close(ends[0]);
  ::waitpid(child, &ended.status, 0);
  return ended;
}

void watch() {
  if (!watch_stacks()) ::_exit(90);
}

void watch_here(const char* name) {
  ::pthread_setname_np(::pthread_self(), name);
  if (!watch_this_stack()) ::_exit(91);
}

/// In a thread with a stack of `stack_bytes`.
void in_pthread(std::size_t stack_bytes, const std::function<void()>& work) {
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  if (::pthread_attr_setstacksize(&attributes, stack_bytes) != 0) ::_exit(92);
  pthread_t thread{};
  const auto start = [](void* self) -> void* {
    (*static_cast<const std::function<void()>*>(self))();
    return nullptr;
  };
  if (::pthread_create(&thread, &attributes, start, const_cast<std::function<void()>*>(&work)) != 0)
    ::_exit(93);
  ::pthread_join(thread, nullptr);
  ::pthread_attr_destroy(&attributes);
}

class Stacks : public testing::Test {
 protected:
  void SetUp() override {
    if (SANITIZED != 0) GTEST_SKIP() << "sanitizers handle overflows, and make frames long";
  }
};

TEST_F(Stacks, TheFirstThread) {
  const Ended ended = run([] {
    watch();
    calls_itself(0);
  });
  EXPECT_TRUE(ended.by(SIGSEGV)) << ended.status << ended.said;
  EXPECT_THAT(ended.said,
              ContainsRegex("stack overflow in thread [0-9]+ \"[^\"]+\" \\(the first\\)"));
  EXPECT_THAT(ended.said,
              ContainsRegex("about [0-9]{5,7} frames of one function that calls itself"));
  EXPECT_THAT(ended.said,
              ContainsRegex("0x[0-9a-f]+ in calls_itself\\+0x[0-9a-f]+ \\(.*stacks_test"));
}

TEST_F(Stacks, APthread) {
  const Ended ended = run([] {
    watch();
    in_pthread(4_MiB, [] {
      watch_here("deep-worker");
      calls_itself(0);
    });
  });
  EXPECT_TRUE(ended.by(SIGSEGV)) << ended.status << ended.said;
  EXPECT_THAT(ended.said, ContainsRegex("stack overflow in thread [0-9]+ \"deep-worker\": "));
  EXPECT_THAT(ended.said, HasSubstr("3072 KiB, and used up"));
  EXPECT_THAT(ended.said, HasSubstr(" in calls_itself+"));
}

TEST_F(Stacks, AStdThread) {
  const Ended ended = run([] {
    watch();
    std::thread([] {
      watch_here("std-thread");
      calls_itself_twice(0);
    }).join();
  });
  EXPECT_TRUE(ended.by(SIGSEGV)) << ended.status << ended.said;
  EXPECT_THAT(ended.said, HasSubstr("\"std-thread\""));
  EXPECT_THAT(ended.said, HasSubstr("one function that calls itself"));
  EXPECT_THAT(ended.said, HasSubstr(" in calls_itself_twice+"));
}

TEST_F(Stacks, ThreeFunctionsAreNamed) {
  for (const bool first : {true, false}) {
    const Ended ended = run([first] {
      watch();
      if (first) first_of_three(0);
      std::thread([] {
        watch_here("three");
        first_of_three(0);
      }).join();
    });
    EXPECT_TRUE(ended.by(SIGSEGV)) << ended.status << ended.said;
    EXPECT_THAT(ended.said, HasSubstr(", of 3 functions in turns:"));
    EXPECT_THAT(ended.said, HasSubstr(" in first_of_three+"));
    EXPECT_THAT(ended.said, HasSubstr(" in second_of_three+"));
    EXPECT_THAT(ended.said, HasSubstr(" in third_of_three+"));
  }
}

// The page that the C library guards is jumped over by these.
TEST_F(Stacks, FramesThatSkipMoreThan64KiB) {
  for (const bool first : {true, false}) {
    const Ended ended = run([first] {
      watch();
      if (first) with_frames_of_100_kilobytes(0);
      in_pthread(8_MiB, [] {
        watch_here("large-frames");
        with_frames_of_100_kilobytes(0);
      });
    });
    EXPECT_TRUE(ended.by(SIGSEGV)) << ended.status << ended.said;
    EXPECT_THAT(ended.said, HasSubstr("stack overflow in thread"));
    EXPECT_THAT(ended.said, ContainsRegex("\npagetrap: [0-9]+ frames of one function"));
    EXPECT_THAT(ended.said, HasSubstr(" in with_frames_of_100_kilobytes+"));
  }
}

TEST_F(Stacks, ASmallStack) {
  const Ended ended = run([] {
    watch();
    in_pthread(256_KiB, [] {
      watch_here("small");
      calls_itself(0);
    });
  });
  EXPECT_TRUE(ended.by(SIGSEGV)) << ended.status << ended.said;
  EXPECT_THAT(ended.said, HasSubstr("\"small\""));
  EXPECT_THAT(ended.said, HasSubstr("192 KiB, and used up"));
}

TEST_F(Stacks, ManyThreadsAtOnce) {
  const Ended ended = run([] {
    watch();
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i)
      threads.emplace_back([] {
        watch_here("many");
        first_of_three(0);
      });
    for (std::thread& thread : threads) thread.join();
  });
  EXPECT_TRUE(ended.by(SIGSEGV)) << ended.status << ended.said;
  EXPECT_THAT(ended.said, HasSubstr(", of 3 functions in turns:"));
}

void on_earlier(int) { ::_exit(77); }

void install_earlier() {
  struct sigaction action {};
  action.sa_handler = on_earlier;
  action.sa_flags = SA_ONSTACK;
  ::sigaction(SIGSEGV, &action, nullptr);
}

void touch(std::uintptr_t address) { *reinterpret_cast<volatile char*>(address) = 1; }

TEST_F(Stacks, OtherFaultsGoToTheEarlierHandlerWithoutAWord) {
  const auto wild = [](std::uintptr_t address, bool in_thread) {
    return run([=] {
      install_earlier();
      watch();
      if (!in_thread) touch(address);
      std::thread([=] {
        watch_here("wild");
        touch(address);
      }).join();
    });
  };
  const auto below_us = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) - 9_MiB;
  for (const bool in_thread : {false, true})
    for (const std::uintptr_t address : {std::uintptr_t{8}, below_us}) {
      const Ended ended = wild(address, in_thread);
      EXPECT_TRUE(ended.with(77)) << ended.status << " " << in_thread;
      EXPECT_EQ(ended.said, "");
    }
}

TEST_F(Stacks, OverflowsGoThereAfterTheReport) {
  const Ended ended = run([] {
    install_earlier();
    watch();
    calls_itself(0);
  });
  EXPECT_TRUE(ended.with(77)) << ended.status;
  EXPECT_THAT(ended.said, HasSubstr("stack overflow in thread"));
}

TEST_F(Stacks, AThreadThatIsNotWatchedIsNotSpokenOf) {
  const Ended ended = run([] {
    watch();
    std::thread([] { calls_itself(0); }).join();
  });
  EXPECT_TRUE(ended.by(SIGSEGV)) << ended.status;
  EXPECT_THAT(ended.said, Not(HasSubstr("stack overflow")));
}

// The C library gives a stack to another thread, which may use all of it.
TEST_F(Stacks, TheGuardEndsWithItsThread) {
  const Ended ended = run([] {
    watch();
    for (int i = 0; i < 20; ++i) {
      in_pthread(1_MiB, [] { watch_here("before"); });
      in_pthread(1_MiB, [] {
        volatile char most[1000 * 1024];
        most[0] = 1;
        if (most[0] != 1) ::_exit(4);
      });
    }
    ::_exit(55);
  });
  EXPECT_TRUE(ended.with(55)) << ended.status << ended.said;
}

TEST_F(Stacks, WatchingTwiceIsWatching) {
  const Ended ended = run([] {
    watch();
    watch();
    if (!this_stack_is_watched()) ::_exit(1);
    std::thread([] {
      if (this_stack_is_watched()) ::_exit(2);
      watch_here("twice");
      watch_here("twice");
      if (!this_stack_is_watched()) ::_exit(3);
    }).join();
    ::_exit(56);
  });
  EXPECT_TRUE(ended.with(56)) << ended.status;
}

TEST_F(Stacks, NoMappingIsSplit) {
  std::thread([] {
    const auto lines = [] {
      std::ifstream maps("/proc/self/maps");
      std::size_t count = 0;
      for (std::string line; std::getline(maps, line);) ++count;
      return count;
    };
    const std::size_t before = lines();
    ASSERT_TRUE(watch_this_stack());
    EXPECT_LE(lines(), before + 2);  // the alternate stack and its guard
  }).join();
}

}  // namespace
}  // namespace pagetrap::guard
