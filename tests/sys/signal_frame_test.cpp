// What a signal frame tells.
#include "sys/signal_frame.hpp"

#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include "support.hpp"
#include "sys/frame_layout.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::sys {
namespace {

FrameFacts g_facts;
std::uintptr_t g_stack_pointer = 0;
sigjmp_buf g_back;

void remember(int, siginfo_t*, void* context) {
  g_facts = frame_facts(context);
  g_stack_pointer = interrupted_stack_pointer(context);
  ::siglongjmp(g_back, 1);
}

class SignalFrame : public testing::Test {
 protected:
  void SetUp() override {
    struct sigaction action {};
    action.sa_sigaction = remember;
    action.sa_flags = SA_SIGINFO;
    ASSERT_EQ(::sigaction(SIGSEGV, &action, &old_segv_), 0);
    ASSERT_EQ(::sigaction(SIGBUS, &action, &old_bus_), 0);
  }
  void TearDown() override {
    ::sigaction(SIGSEGV, &old_segv_, nullptr);
    ::sigaction(SIGBUS, &old_bus_, nullptr);
  }
  static bool faults(std::byte* at, bool write) {
    g_facts = {!write, false};
    if (sigsetjmp(g_back, 1) != 0) return true;
    if (write) {
      *reinterpret_cast<volatile char*>(at) = 1;
    } else {
      static_cast<void>(*reinterpret_cast<volatile char*>(at));
    }
    return false;
  }
  struct sigaction old_segv_ {};
  struct sigaction old_bus_ {};
};

TEST_F(SignalFrame, TellsWritesFromReads) {
  const auto page = Mapping::create(anonymous_pages(1, PROT_READ | PROT_WRITE));
  ASSERT_TRUE(page);
  *reinterpret_cast<volatile char*>(page->data()) = 1;
  ASSERT_EQ(change_protection(page->range(), PROT_NONE), 0);
  ASSERT_TRUE(faults(page->data() + 5, false));
  EXPECT_FALSE(g_facts.write);
  ASSERT_TRUE(faults(page->data() + 5, true));
  EXPECT_TRUE(g_facts.write);
  ASSERT_EQ(change_protection(page->range(), PROT_READ), 0);
  EXPECT_FALSE(faults(page->data() + 5, false));
  ASSERT_TRUE(faults(page->data() + 5, true));
  EXPECT_TRUE(g_facts.write);
  EXPECT_TRUE(g_facts.translated);
  // Of the frame that was interrupted: this function's, more or less.
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  if (g_stack_pointer != 0) {
    EXPECT_LT(here > g_stack_pointer ? here - g_stack_pointer : g_stack_pointer - here, 1_MiB);
  }
}

TEST_F(SignalFrame, TellsWhereNothingWas) {
  auto page = Mapping::create(anonymous_pages(1, PROT_NONE));
  ASSERT_TRUE(page);
  std::byte* const at = page->data();
  page->reset();
  ASSERT_TRUE(faults(at, true));
  EXPECT_TRUE(g_facts.write);
  EXPECT_FALSE(g_facts.translated);
}

}  // namespace
}  // namespace pagetrap::sys
