// The signal frames that a thread will return through.
#include "vm/outer_frames.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include <pagetrap/vm/signals.hpp>

#include "sys/frame_layout.hpp"

namespace pagetrap {
namespace {

#if defined(__x86_64__)
constexpr bool kKnown = true;
#else
constexpr bool kKnown = false;
#endif

constexpr int kMost = 8;
thread_local std::array<void*, kMost> t_contexts;  // of the handlers we are in, outermost first
thread_local int t_depth = 0;
thread_local int t_wanted = 0;
thread_local std::array<void*, kMost> t_found;
thread_local int t_found_count = 0;

void note(void*, void* context) noexcept {
  if (t_found_count < kMost) t_found[static_cast<std::size_t>(t_found_count)] = context;
  ++t_found_count;
}

void nest(int signal, siginfo_t*, void* context) {
  t_contexts[static_cast<std::size_t>(t_depth++)] = context;
  if (t_depth < t_wanted) {
    // Some stack in between, with words on it that look like nothing in particular.
    volatile std::uint64_t filler[100] = {};
    filler[t_depth] = 1;
    static_cast<void>(filler[0]);
    ::syscall(SYS_tgkill, ::getpid(), ::syscall(SYS_gettid), signal);
  } else {
    for_each_outer_frame(sys::interrupted_stack_pointer(context), note, nullptr);
  }
  --t_depth;
}

class OuterFrames : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (!kKnown) GTEST_SKIP() << "the layout of this CPU's signal frames is not known";
    struct sigaction action {};
    action.sa_sigaction = nest;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ASSERT_EQ(::sigaction(SIGUSR1, &action, nullptr), 0);
    action.sa_flags |= SA_ONSTACK;
    ASSERT_EQ(::sigaction(SIGUSR2, &action, nullptr), 0);
    // Learned from an action that exists.
    struct sigaction fault {};
    fault.sa_sigaction = [](int, siginfo_t*, void*) { ::_exit(99); };
    fault.sa_flags = SA_SIGINFO;
    ASSERT_EQ(::sigaction(SIGSEGV, &fault, nullptr), 0);
    learn_signal_restorer();
  }
  void TearDown() override {
    for (const int signal : {SIGUSR1, SIGUSR2, SIGSEGV}) ::signal(signal, SIG_DFL);
  }
  /// Runs GetParam() nested handlers, and compares.
  static void run(int signal) {
    t_wanted = GetParam();
    t_found_count = 0;
    t_depth = 0;
    ::syscall(SYS_tgkill, ::getpid(), ::syscall(SYS_gettid), signal);
    // All handlers but the innermost, innermost first.
    ASSERT_EQ(t_found_count, GetParam() - 1);
    for (int i = 0; i < t_found_count; ++i)
      EXPECT_EQ(t_found[static_cast<std::size_t>(i)],
                t_contexts[static_cast<std::size_t>(GetParam() - 2 - i)]);
  }
};

TEST_P(OuterFrames, OnTheOrdinaryStack) { run(SIGUSR1); }

TEST_P(OuterFrames, OnAnAlternateStack) {
  std::thread([] {
    ASSERT_TRUE(ensure_alternate_stack(256 * 1024));
    run(SIGUSR2);
  }).join();
}

// From the ordinary stack to the alternate one: the frames lie on two stacks.
TEST_P(OuterFrames, AcrossTwoStacks) {
  std::thread([] {
    ASSERT_TRUE(ensure_alternate_stack(256 * 1024));
    struct sigaction action {};
    action.sa_sigaction = [](int, siginfo_t*, void* context) {
      t_contexts[static_cast<std::size_t>(t_depth++)] = context;
      ::syscall(SYS_tgkill, ::getpid(), ::syscall(SYS_gettid), SIGUSR2);
      --t_depth;
    };
    action.sa_flags = SA_SIGINFO;
    ASSERT_EQ(::sigaction(SIGURG, &action, nullptr), 0);
    t_wanted = GetParam() + 1;
    t_found_count = 0;
    t_depth = 0;
    ::syscall(SYS_tgkill, ::getpid(), ::syscall(SYS_gettid), SIGURG);
    ::signal(SIGURG, SIG_DFL);
    ASSERT_EQ(t_found_count, GetParam());
    EXPECT_EQ(t_found[static_cast<std::size_t>(t_found_count - 1)], t_contexts[0]);
  }).join();
}

INSTANTIATE_TEST_SUITE_P(Vm, OuterFrames, testing::Values(1, 2, 3, 5));

}  // namespace
}  // namespace pagetrap
