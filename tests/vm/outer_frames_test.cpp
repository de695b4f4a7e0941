#include "vm/outer_frames.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <ucontext.h>

#include <array>
#include <vector>

#include <pagetrap/vm/signals.hpp>

namespace pagetrap {
namespace {

struct Seen {
  std::array<void*, 16> contexts{};
  std::size_t count = 0;
};
Seen g_found;                     // what the search found, innermost first
std::array<void*, 4> g_nested{};  // the contexts that the handlers were given, outermost first
int g_depth = 0;
int g_wanted = 0;

void collect(void* self, void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  auto& seen = *static_cast<Seen*>(self);
  if (seen.count < seen.contexts.size()) seen.contexts[seen.count++] = context;
}

void on_signal(int signal, siginfo_t*, void* context) {
  g_nested[static_cast<std::size_t>(g_depth++)] = context;
  if (g_depth < g_wanted) {
    ::raise(signal);
  } else {
    for_each_outer_frame(context, collect, &g_found);
  }
}

void expect_frames(int nested, int flags) {
  struct sigaction action {};
  struct sigaction old {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | flags;
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &old), 0);
  g_found = {};
  g_depth = 0;
  g_wanted = nested;
  ::raise(SIGUSR1);
  ::sigaction(SIGUSR1, &old, nullptr);
  // The innermost handler was given its own context; the frames further out are to be found.
  ASSERT_EQ(g_found.count, static_cast<std::size_t>(nested - 1));
  for (std::size_t i = 0; i < g_found.count; ++i)
    EXPECT_EQ(g_found.contexts[i], g_nested[g_found.count - 1 - i]);
}

class OuterFrames : public ::testing::Test {
 protected:
  void SetUp() override {
#if !defined(__x86_64__)
    GTEST_SKIP() << "the frame's layout is known on x86-64 only";
#endif
    // So that the C library has told the kernel its restorer for SIGSEGV.
    ASSERT_TRUE(install_signal_handlers());
    learn_signal_restorer();
  }
};

TEST_F(OuterFrames, NoneOutsideOfHandlers) { expect_frames(1, 0); }
TEST_F(OuterFrames, AllOfNestedHandlers) {
  expect_frames(2, 0);
  expect_frames(4, 0);
}
TEST_F(OuterFrames, AlsoOnAnAlternateStack) {
  ASSERT_TRUE(ensure_alternate_stack());
  expect_frames(1, SA_ONSTACK);
  expect_frames(3, SA_ONSTACK);
}

}  // namespace
}  // namespace pagetrap
