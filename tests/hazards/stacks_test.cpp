// Faults on the faulting thread's own stack, and what the alternate stack is for.
#include <pthread.h>

#include <thread>

#include "hazards/support.hpp"

namespace pagetrap::hazards {
namespace {

constexpr std::size_t kStackPages = 128;
constexpr std::size_t kClosedFrom = 32;  // pages of the stack, from its low end
constexpr std::size_t kClosed = 16;      // more than a signal frame is long

// Goes down the stack until it is below `bottom`. Returns what it wrote on the way.
[[gnu::noinline]] unsigned descend(const volatile std::byte* bottom, unsigned depth) {
  volatile unsigned char block[512];
  for (unsigned i = 0; i < sizeof block; ++i) block[i] = static_cast<unsigned char>(depth);
  // Integers: comparing pointers into unrelated objects is undefined.
  const bool deep_enough =
      reinterpret_cast<std::uintptr_t>(&block[0]) < reinterpret_cast<std::uintptr_t>(bottom);
  const unsigned below = deep_enough ? 0 : descend(bottom, depth + 1);
  return below + (block[depth % sizeof block] == static_cast<unsigned char>(depth) ? 1 : 1000000);
}

struct OwnStack {
  Region region;
  Opener opener;
  bool alternate = false;
  unsigned depth = 0;
};

struct sigaction g_previous_of_newcomer;

void install_without_onstack(int signal) {
  struct sigaction action {};
  action.sa_sigaction = [](int number, siginfo_t* info, void* context) {
    g_previous_of_newcomer.sa_sigaction(number, info, context);
  };
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  require(::sigaction(signal, &action, &g_previous_of_newcomer) == 0, "sigaction");
}

void* run_on_closed_stack(void* argument) {
  auto& own = *static_cast<OwnStack*>(argument);
  if (own.alternate) must(ensure_alternate_stack(), "alternate stack");
  must(own.region.protect({page_at(own.region, kClosedFrom).base, Pages{kClosed}}, Access::read),
       "protect the own stack");
  own.depth = descend(page_at(own.region, kClosedFrom - 4).base, 0);
  return nullptr;
}

// A thread whose stack is a region, of which some pages are write-protected.
void descend_through_closed_pages(BackendId id, bool alternate, bool newcomer = false) {
  std::byte* const memory = foreign_pages(kStackPages, PROT_READ | PROT_WRITE);
  const PageRange stack{memory, Pages{kStackPages}};
  // Touched first: on kernels before 6.4 only pages that are there can be protected.
  for (std::size_t i = 0; i < kStackPages; ++i) store(memory + i * page_size(), 0);
  OwnStack own;
  own.alternate = alternate;
  own.region = must(Region::adopt(stack, options_for(id, FaultKind::write_protected)), "adopt");
  must(own.region.on_fault(Opener::open, &own.opener), "on_fault");
  if (newcomer) install_without_onstack(id == BackendId::mprotect ? SIGSEGV : SIGBUS);
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  require(::pthread_attr_setstack(&attributes, memory, stack.size_bytes()) == 0, "setstack");
  pthread_t thread;
  require(::pthread_create(&thread, &attributes, run_on_closed_stack, &own) == 0, "thread");
  ::pthread_join(thread, nullptr);
  require(own.depth > 10 && own.depth < 1000000, "what was written on the stack is there");
  require(own.opener.faults >= static_cast<int>(kClosed) - 1, "every closed page was trapped");
}

TEST(Stacks, OwnStackCanBeProtectedWithAnAlternateStack) {
  for (const BackendId id : inline_backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] { descend_through_closed_pages(id, true); }));
  }
}

// The kernel cannot write the signal frame to a stack that is closed.
TEST(Stacks, WithoutAnAlternateStackAFaultOnTheOwnStackKills) {
  if (under_sanitizer()) GTEST_SKIP() << "it gives every thread an alternate stack";
  for (const BackendId id : inline_backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(killed_by(SIGSEGV), in_child([id] { descend_through_closed_pages(id, false); }));
  }
}

// Whoever is in front decides on which stack the handlers behind it run.
TEST(Stacks, ANewcomerWithoutOnstackTakesTheAlternateStackAway) {
  for (const BackendId id : inline_backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(killed_by(SIGSEGV), in_child([id] { descend_through_closed_pages(id, true, true); }));
  }
}

TEST(Stacks, HandlerThreadsNeedNoAlternateStack) {
  if (backends_for(FaultKind::write_protected)[0] == BackendId::mprotect)
    GTEST_SKIP() << "no userfaultfd here";
  EXPECT_EQ(kSucceeded,
            in_child([] { descend_through_closed_pages(BackendId::uffd_thread, false); }));
}

std::byte* g_guard_end = nullptr;

Verdict overflow_reported(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  static_cast<void>(self);
  const bool ours = fault.kind == FaultKind::no_access && fault.address < g_guard_end;
  ::_exit(ours ? 0 : kBroken);
}

Verdict grow(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  static_cast<Opener*>(self)->faults.fetch_add(1);
  return fault.region->unguard(fault.page) ? Verdict::resolved : Verdict::not_mine;
}

void* overflow(void* argument) {
  must(ensure_alternate_stack(), "alternate stack");
  const auto& own = *static_cast<OwnStack*>(argument);
  return descend(own.region.data() + page_size() / 2, 0) != 0 ? nullptr : argument;
}

void overflow_into_guards(Handler handler) {
  std::byte* const memory = foreign_pages(kStackPages, PROT_READ | PROT_WRITE);
  OwnStack own;
  own.region = must(Region::adopt({memory, Pages{kStackPages}},
                                  options_for(BackendId::mprotect, FaultKind::write_protected)),
                    "adopt");
  must(own.region.on_fault(handler, &own.opener), "on_fault");
  // pthread_attr_setstack has the thread library write to the stack's upper end only.
  g_guard_end = memory + 64 * page_size();
  must(own.region.guard({memory, Pages{64}}), "guard");
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  require(::pthread_attr_setstack(&attributes, memory, kStackPages * page_size()) == 0, "setstack");
  pthread_t thread;
  require(::pthread_create(&thread, &attributes, overflow, &own) == 0, "thread");
  ::pthread_join(thread, nullptr);
  require(own.opener.faults >= 60, "the stack grew through its guards, page by page");
}

TEST(Stacks, OverflowIntoAGuardIsReportedToTheHandler) {
  EXPECT_EQ(kSucceeded, in_child([] {
              overflow_into_guards(overflow_reported);
              ::_exit(kBroken);  // the handler ends the process
            }));
}

TEST(Stacks, AHandlerCanGrowAStackThroughItsGuards) {
  EXPECT_EQ(kSucceeded, in_child([] { overflow_into_guards(grow); }));
}

TEST(Stacks, AlternateStackIsFreedWithItsThread) {
  ASSERT_TRUE(ensure_alternate_stack());
  std::thread([] { static_cast<void>(ensure_alternate_stack()); }).join();
  const std::size_t before = count_mappings();
  for (int i = 0; i < 300; ++i) std::thread([] { ASSERT_TRUE(ensure_alternate_stack()); }).join();
  EXPECT_LE(count_mappings(), before + 20);
}

TEST(Stacks, AnAlternateStackOfTheProgramStays) {
  std::thread([] {
    std::vector<char> stack(128 * 1024);
    stack_t own{};
    own.ss_sp = stack.data();
    own.ss_size = stack.size();
    ASSERT_EQ(0, ::sigaltstack(&own, nullptr));
    ASSERT_TRUE(ensure_alternate_stack());
    stack_t now{};
    ASSERT_EQ(0, ::sigaltstack(nullptr, &now));
    EXPECT_EQ(stack.data(), now.ss_sp);
    own.ss_flags = SS_DISABLE;
    ASSERT_EQ(0, ::sigaltstack(&own, nullptr));
  }).join();
}

TEST(Stacks, HandlerRunsOnTheAlternateStackIfThereIsOne) {
  for (const BackendId id : inline_backends_for(FaultKind::write_protected)) {
    std::thread([id] {
      ASSERT_TRUE(ensure_alternate_stack());
      static thread_local bool on_alternate = false;
      auto region =
          Region::create(page_size(), options_for(id, FaultKind::write_protected)).value();
      ASSERT_TRUE(region.on_fault(
          [](void*, const Fault& fault) noexcept {
            stack_t now{};
            ::sigaltstack(nullptr, &now);
            on_alternate = (now.ss_flags & SS_ONSTACK) != 0;
            return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
          },
          nullptr));
      ASSERT_TRUE(region.protect(region.range(), Access::read));
      store(region.data(), 1);
      EXPECT_TRUE(on_alternate) << name(id);
    }).join();
  }
}

}  // namespace
}  // namespace pagetrap::hazards
