// Handlers: replaced while threads fault, verdicts, and whom a declined fault goes to.
#include <setjmp.h>
#include <signal.h>

#include <thread>

#include "conformance/fixture.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::conformance {
namespace {

constexpr std::size_t kPages = 16;

class Handlers : public Conformance {
 protected:
  [[nodiscard]] FaultSet needs() const override { return FaultKind::write_protected; }
};

// A handler that must not be called after it was replaced and the region was quiet.
struct Mortal {
  std::atomic<bool> dead{false};
  std::atomic<unsigned> calls{0};
  std::atomic<unsigned> calls_when_dead{0};
  static Verdict on_fault(void* self, const Fault& fault) noexcept {
    auto& me = *static_cast<Mortal*>(self);
    me.calls.fetch_add(1);
    sys::yield();
    if (me.dead.load()) me.calls_when_dead.fetch_add(1);
    static_cast<void>(fault.region->unprotect(fault.region->range()));
    if (me.dead.load()) me.calls_when_dead.fetch_add(1);
    return Verdict::resolved;
  }
};

TEST_P(Handlers, AreReplacedWhileThreadsFault) {
  constexpr unsigned kRounds = 60;
  std::vector<Mortal> mortals(kRounds + 1);
  Region region = make(kPages, FaultKind::write_protected);
  ASSERT_TRUE(region.valid());
  region.on_fault(Mortal::on_fault, &mortals[0]).value();
  std::atomic<bool> stop{false};
  std::atomic<unsigned> failures{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      while (!stop.load()) {
        if (!region.protect(region.range(), Access::read)) failures.fetch_add(1);
        for (std::size_t i = t; i < kPages; i += 3)
          store(region, page_at(region, i), i, ways().back());
      }
    });
  }
  for (unsigned round = 0; round < kRounds; ++round) {
    for (unsigned waits = 0; mortals[round].calls.load() == 0 && waits < 100'000; ++waits)
      sys::yield();
    if (!region.on_fault(Mortal::on_fault, &mortals[round + 1])) failures.fetch_add(1);
    region.quiesce();
    mortals[round].dead.store(true);
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  unsigned calls = 0;
  for (const Mortal& mortal : mortals) {
    calls += mortal.calls.load();
    EXPECT_EQ(mortal.calls_when_dead.load(), 0U);
  }
  EXPECT_GT(calls, 0U);
  EXPECT_EQ(failures.load(), 0U);
}

TEST_P(Handlers, RetryRunsTheAccessAgain) {
  for (const Way way : ways()) {
    FaultLog log;
    log.retries = 5;
    Region region = make(kPages, FaultKind::write_protected, &log);
    ASSERT_TRUE(region.valid());
    region.protect(region.range(), Access::read).value();
    store(region, page_at(region, 2), 42, way);
    EXPECT_EQ(load(region, page_at(region, 2), way), 42U);
    EXPECT_EQ(log.retried.load(), 5U);
    EXPECT_EQ(log.count(FaultKind::write_protected), 1U);
  }
}

// One thread waits with `retry` for another one that opens the page.
TEST_P(Handlers, RetryWaitsForAnotherThread) {
  struct Waiter {
    std::atomic<unsigned> calls{0};
    static Verdict on_fault(void* self, const Fault&) noexcept {
      static_cast<Waiter*>(self)->calls.fetch_add(1);
      sys::yield();
      return Verdict::retry;
    }
  };
  Waiter waiter;
  Region region = make(kPages, FaultKind::write_protected);
  ASSERT_TRUE(region.valid());
  region.on_fault(Waiter::on_fault, &waiter).value();
  region.protect(region.range(), Access::read).value();
  std::thread other([&] { store(region, page_at(region, 2), 42, ways().back()); });
  while (waiter.calls.load() < 3) sys::yield();
  region.unprotect(region.range()).value();
  other.join();
  EXPECT_EQ(load(region, page_at(region, 2), ways().back()), 42U);
}

TEST_P(Handlers, OnFaultInsideAHandlerIsRefused) {
  if (!can().faulting_thread || is_null()) GTEST_SKIP() << "only in the faulting thread";
  struct Selfish {
    std::atomic<int> error{0};
    static Verdict on_fault(void* self, const Fault& fault) noexcept {
      const auto done = fault.region->on_fault(nullptr, nullptr);
      static_cast<Selfish*>(self)->error.store(done ? 0 : done.error().number);
      static_cast<void>(fault.region->unprotect(fault.page));
      return Verdict::resolved;
    }
  };
  Selfish selfish;
  Region region = make(kPages, FaultKind::write_protected);
  ASSERT_TRUE(region.valid());
  region.on_fault(Selfish::on_fault, &selfish).value();
  region.protect(region.range(), Access::read).value();
  store(region, page_at(region, 2), 42, Way::plain);
  EXPECT_EQ(selfish.error.load(), EDEADLK);
}

// --- Declined faults

sigjmp_buf g_back;
volatile sig_atomic_t g_previous_calls = 0;
void* volatile g_previous_address = nullptr;

void previous_handler(int, siginfo_t* info, void*) {
  g_previous_calls = g_previous_calls + 1;
  g_previous_address = info->si_addr;
  ::siglongjmp(g_back, 1);
}

// Puts a handler of the "program" behind pagetrap's.
bool install_previous(int flags) {
  struct sigaction action {};
  action.sa_sigaction = previous_handler;
  action.sa_flags = SA_SIGINFO | flags;
  return ::sigaction(SIGSEGV, &action, nullptr) == 0 &&
         ::sigaction(SIGBUS, &action, nullptr) == 0 && install_signal_handlers() &&
         signal_handlers_in_front();
}

TEST_P(Handlers, DeclinedFaultGoesToThePreviousHandler) {
  for (const int flags : {0, static_cast<int>(SA_NODEFER), static_cast<int>(SA_ONSTACK)}) {
    const Ending ending = in_child([&] {
      CHILD_CHECK(install_previous(flags));
      FaultLog log;
      log.decline = true;
      RegionOptions plain;
      plain.backend = backend();
      auto region = Region::create(bytes(Pages{kPages}), plain);
      CHILD_CHECK(region);
      CHILD_CHECK(region->on_fault(FaultLog::on_fault, &log));
      CHILD_CHECK(region->protect(region->range(), Access::read));
      // Three times: the signal must not stay blocked, and the chain not wear out.
      volatile int time = 0;
      while (time < 3) {
        time = time + 1;
        std::byte* const at = page_at(*region, 3) + 40;
        if (is_null()) {
          CHILD_CHECK(!region->touch(at, true));
          continue;
        }
        if (sigsetjmp(g_back, 1) == 0) {
          store(*region, at, 1, Way::plain);
          return 1;
        }
        CHILD_CHECK(g_previous_calls == time);
        // What a handler thread declined stays closed, and is not asked about again.
        const int asked = can().faulting_thread ? time : 1;
        CHILD_CHECK(log.count(FaultKind::write_protected) == static_cast<unsigned>(asked));
        CHILD_CHECK(g_previous_address == at);
      }
      CHILD_CHECK(load(*region, page_at(*region, 3) + 40, Way::plain) == 0);
      log.decline = false;
      CHILD_CHECK(region->unprotect(pages_at(*region, 3, 1)));
      store(*region, page_at(*region, 3) + 40, 1, Way::plain);
      CHILD_CHECK(g_previous_calls == (is_null() ? 0 : 3));
      return 0;
    });
    EXPECT_EQ(ending.status, 0) << ending.signal << ' ' << ending.output;
  }
}

TEST_P(Handlers, ForeignFaultGoesToThePreviousHandler) {
  const Ending ending = in_child([&] {
    CHILD_CHECK(install_previous(0));
    RegionOptions plain;
    plain.backend = backend();
    const auto region = Region::create(bytes(Pages{kPages}), plain);
    CHILD_CHECK(region);
    sys::Mapping::Request request;
    request.size_bytes = page_size();
    request.flags = 0x22;  // MAP_PRIVATE | MAP_ANONYMOUS, no rights
    const auto elsewhere = sys::Mapping::create(request);
    CHILD_CHECK(elsewhere);
    std::byte* const at = elsewhere->data() + 8;
    if (sigsetjmp(g_back, 1) == 0) {
      *reinterpret_cast<volatile std::uint64_t*>(at) = 1;
      return 1;
    }
    CHILD_CHECK(g_previous_calls == 1);
    CHILD_CHECK(g_previous_address == at);
    return 0;
  });
  EXPECT_EQ(ending.status, 0) << ending.signal << ' ' << ending.output;
}

// A program that replaces our handler later and passes on what it does not know, as documented.
struct sigaction g_saved {};
volatile sig_atomic_t g_newcomer_calls = 0;

void newcomer(int signal, siginfo_t* info, void* context) {
  g_newcomer_calls = g_newcomer_calls + 1;
  g_saved.sa_sigaction(signal, info, context);
}

TEST_P(Handlers, NewcomerInFrontPassesFaultsOn) {
  if (is_null()) GTEST_SKIP() << "no signals";
  const Ending ending = in_child([&] {
    FaultLog log;
    RegionOptions plain;
    plain.backend = backend();
    plain.delivery = can().faulting_thread ? Delivery::faulting_thread : Delivery::any;
    auto region = Region::create(bytes(Pages{kPages}), plain);
    CHILD_CHECK(region);
    CHILD_CHECK(region->on_fault(FaultLog::on_fault, &log));
    struct sigaction action {};
    action.sa_sigaction = newcomer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    CHILD_CHECK(::sigaction(SIGSEGV, &action, &g_saved) == 0);
    CHILD_CHECK(::sigaction(SIGBUS, &action, &g_saved) == 0);
    CHILD_CHECK(!signal_handlers_in_front());
    CHILD_CHECK(region->protect(region->range(), Access::read));
    store(*region, page_at(*region, 1), 5, Way::plain);
    CHILD_CHECK(log.count(FaultKind::write_protected) == 1);
    CHILD_CHECK(g_newcomer_calls == (can().faulting_thread ? 1 : 0));
    // Back in front, the newcomer behind: a fault of ours does not reach it.
    CHILD_CHECK(install_signal_handlers());
    CHILD_CHECK(signal_handlers_in_front());
    CHILD_CHECK(region->protect(region->range(), Access::read));
    store(*region, page_at(*region, 1), 6, Way::plain);
    CHILD_CHECK(log.count(FaultKind::write_protected) == 2);
    CHILD_CHECK(g_newcomer_calls == (can().faulting_thread ? 1 : 0));
    // A fault of nobody's goes to the newcomer, who passes it back to us, and there it ends: the
    // default action, not a circle.
    log.decline = true;
    CHILD_CHECK(region->protect(region->range(), Access::read));
    store(*region, page_at(*region, 1), 7, Way::plain);
    return 1;
  });
  EXPECT_TRUE(ending.died_of_fault()) << ending.status << ' ' << ending.output;
}

TEST_P(Handlers, DeclinedFaultKillsAsItWouldHave) {
  const Ending ending = in_child([&] {
    FaultLog log;
    log.decline = true;
    RegionOptions plain;
    plain.backend = backend();
    auto region = Region::create(bytes(Pages{kPages}), plain);
    CHILD_CHECK(region);
    CHILD_CHECK(region->on_fault(FaultLog::on_fault, &log));
    CHILD_CHECK(region->protect(region->range(), Access::read));
    if (is_null()) return region->touch(region->data(), true) ? 1 : 99;
    std::thread([&] { store(*region, region->data(), 1, Way::plain); }).join();
    return 1;
  });
  if (is_null()) {
    EXPECT_EQ(ending.status, 99) << ending.output;
  } else {
    EXPECT_TRUE(ending.died_of_fault()) << ending.status << ' ' << ending.output;
    if (can().handler_thread) {
      EXPECT_TRUE(ending.signal == SIGSEGV || ending.signal == 0);
    }
  }
}

TEST_P(Handlers, WithoutOneAFaultIsAnError) {
  const Ending ending = in_child([&] {
    RegionOptions plain;
    plain.backend = backend();
    auto region = Region::create(bytes(Pages{kPages}), plain);
    CHILD_CHECK(region);
    FaultLog log;
    CHILD_CHECK(region->on_fault(FaultLog::on_fault, &log));
    CHILD_CHECK(region->on_fault(nullptr, nullptr));
    CHILD_CHECK(region->protect(region->range(), Access::read));
    if (is_null()) return region->touch(region->data(), true) ? 1 : 99;
    store(*region, region->data(), 1, Way::plain);
    return 1;
  });
  if (is_null()) {
    EXPECT_EQ(ending.status, 99) << ending.output;
  } else {
    EXPECT_TRUE(ending.died_of_fault()) << ending.status << ' ' << ending.output;
  }
}

// A fault on the alternate stack of a signal handler of the program's own.
std::atomic<Region*> g_region{nullptr};

void touching_handler(int) {
  Region& region = *g_region.load();
  store(region, page_at(region, 4), 44, Way::plain);
}

TEST_P(Handlers, FaultInsideASignalHandlerOnAnAlternateStack) {
  if (is_null()) GTEST_SKIP() << "no signals";
  FaultLog log;
  Region region = make(kPages, FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  region.protect(region.range(), Access::read).value();
  g_region.store(&region);
  std::thread([&] {
    ASSERT_TRUE(ensure_alternate_stack());
    ASSERT_TRUE(ensure_alternate_stack());
    struct sigaction action {};
    struct sigaction old {};
    action.sa_handler = touching_handler;
    action.sa_flags = SA_ONSTACK;
    ASSERT_EQ(::sigaction(SIGUSR2, &action, &old), 0);
    ASSERT_EQ(::pthread_kill(::pthread_self(), SIGUSR2), 0);
    ASSERT_EQ(::sigaction(SIGUSR2, &old, nullptr), 0);
  }).join();
  EXPECT_EQ(load(region, page_at(region, 4), Way::plain), 44U);
  EXPECT_EQ(log.count(FaultKind::write_protected), 1U);
}

// errno belongs to the interrupted code.
TEST_P(Handlers, FaultsLeaveErrnoAlone) {
  struct Careless {
    static Verdict on_fault(void*, const Fault& fault) noexcept {
      static_cast<void>(fault.region->unprotect(fault.page));
      errno = EXDEV;
      return Verdict::resolved;
    }
  };
  if (is_null()) GTEST_SKIP() << "the handler is called by touch() itself";
  Region region = make(kPages, FaultKind::write_protected);
  ASSERT_TRUE(region.valid());
  region.on_fault(Careless::on_fault, nullptr).value();
  region.protect(region.range(), Access::read).value();
  errno = ELOOP;
  store(region, region.data(), 1, Way::plain);
  EXPECT_EQ(errno, ELOOP);
}

INSTANTIATE_TEST_SUITE_P(Vm, Handlers, testing::ValuesIn(with_backings({Backing::anonymous})),
                         test_name);

}  // namespace
}  // namespace pagetrap::conformance
