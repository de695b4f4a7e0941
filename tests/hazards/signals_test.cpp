// Signals around faults: blocked ones, storms of them, and what a fault must leave as it was in the
// interrupted code.
#include <pthread.h>
#include <sys/time.h>

#include <thread>

#include "hazards/support.hpp"

namespace pagetrap::hazards {
namespace {

Region protected_region(BackendId id, Opener& opener, std::size_t pages = 4) {
  Region region = must(
      Region::create(pages * page_size(), options_for(id, FaultKind::write_protected)), "create");
  must(region.on_fault(Opener::open, &opener), "on_fault");
  must(region.protect(region.range(), Access::read), "protect");
  return region;
}

void block_faults() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGSEGV);
  ::sigaddset(&set, SIGBUS);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

// Hazard 8: the kernel cannot deliver, and ends the process. Handler threads do not mind.
TEST(Signals, AFaultWithItsSignalBlockedKillsUnlessAHandlerThreadServesIt) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    const End end = in_child([id] {
      Opener opener;
      Region region = protected_region(id, opener);
      block_faults();
      store(region.data(), 1);
      require(opener.faults == 1, "served");
    });
    const End expected = id == BackendId::uffd_thread   ? kSucceeded
                         : id == BackendId::uffd_inline ? killed_by(SIGBUS)
                                                        : killed_by(SIGSEGV);
    EXPECT_EQ(expected, end);
  }
}

TEST(Signals, AThreadBornOfABlockingOneInheritsTheHazard) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    if (id != BackendId::mprotect) continue;
    EXPECT_EQ(killed_by(SIGSEGV), in_child([id] {
                Opener opener;
                Region region = protected_region(id, opener);
                block_faults();
                std::thread([&] { store(region.data(), 1); }).join();
              }));
  }
}

TEST(Signals, ErrnoIsPreserved) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Opener opener;
                Region region = protected_region(id, opener);
                must(region.on_fault(
                         [](void* self, const Fault& fault) noexcept {
                           errno = ENOTTY;
                           static_cast<void>(::close(-1));
                           return Opener::open(self, fault);
                         },
                         &opener),
                     "on_fault");
                for (int i = 0; i < 100; ++i) {
                  must(region.protect(region.range(), Access::read), "protect");
                  errno = 4711;
                  store(region.data(), 1);
                  const int after = errno;
                  require(after == 4711, "errno");
                }
                require(opener.faults == 100, "faults");
              }));
  }
}

// --- a timer that fires all the time, whose handler uses a region itself

Region* g_timer_region = nullptr;
std::atomic<int> g_ticks{0};

void on_tick(int) {
  const int saved = errno;
  const int tick = g_ticks.fetch_add(1);
  if (g_timer_region != nullptr) {
    static_cast<void>(g_timer_region->protect(page_at(*g_timer_region, 3), Access::read));
    store(page_at(*g_timer_region, 3).base, static_cast<unsigned>(tick));
  }
  errno = saved;
}

void start_timer(int microseconds, int flags) {
  struct sigaction action {};
  action.sa_handler = on_tick;
  action.sa_flags = flags;
  require(::sigaction(SIGALRM, &action, nullptr) == 0, "sigaction");
  itimerval period{};
  period.it_interval.tv_usec = microseconds;
  period.it_value.tv_usec = microseconds;
  require(::setitimer(ITIMER_REAL, &period, nullptr) == 0, "setitimer");
}
void stop_timer() {
  const itimerval off{};
  ::setitimer(ITIMER_REAL, &off, nullptr);
  ::signal(SIGALRM, SIG_DFL);
}

TEST(Signals, AStormOfTimerSignalsWhileFaulting) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Opener opener;
                Region region = protected_region(id, opener);
                g_timer_region = &region;
                start_timer(100, SA_RESTART);
                std::thread other([&] {
                  for (unsigned i = 0; i < 5000 || g_ticks < 50; ++i) {
                    must(region.protect(page_at(region, 1), Access::read), "protect");
                    store(page_at(region, 1).base, i);
                    require(load(page_at(region, 1).base) == (i & 0xff), "the other's value");
                  }
                });
                for (unsigned i = 0; i < 5000 || g_ticks < 50; ++i) {
                  must(region.protect(page_at(region, 0), Access::read), "protect");
                  store(page_at(region, 0).base, i);
                  require(load(page_at(region, 0).base) == (i & 0xff), "its value");
                }
                other.join();
                stop_timer();
                g_timer_region = nullptr;
                require(opener.faults >= 10000, "faults");
              }));
  }
}

// Hazard 13: a signal interrupts a thread that sleeps on a page; its handler runs, the thread
// faults again, and the same page is reported more than once.
TEST(Signals, AThreadThatSleepsOnAPageMayBeInterrupted) {
  if (!capabilities(BackendId::uffd_thread, Backing::anonymous).handler_thread)
    GTEST_SKIP() << "no userfaultfd here";
  EXPECT_EQ(kSucceeded, in_child([] {
              constexpr std::size_t kPages = 50;
              const auto options = options_for(BackendId::uffd_thread, FaultKind::missing);
              Region region = must(Region::create(kPages * page_size(), options), "create");
              struct Slow {
                std::atomic<int> calls{0};
                std::atomic<std::size_t> filled{0};
              } slow;
              must(region.on_fault(
                       [](void* self, const Fault& fault) noexcept {
                         static std::array<std::byte, 65536> contents;
                         contents.fill(std::byte{0x33});
                         auto& counts = *static_cast<Slow*>(self);
                         counts.calls.fetch_add(1);
                         ::usleep(1000);  // many ticks of the timer
                         const auto done =
                             fault.region->supply(fault.page, contents.data(), Supply::copy);
                         if (!done) return Verdict::not_mine;
                         counts.filled.fetch_add(done->count());
                         return Verdict::resolved;
                       },
                       &slow),
                   "on_fault");
              start_timer(200, 0);
              for (std::size_t i = 0; i < kPages; ++i) {
                require(load(page_at(region, i).base + 9) == 0x33, "contents");
                store(page_at(region, i).base, 1);
              }
              stop_timer();
              // The last page is there before its handler has counted it.
              while (slow.filled < kPages) ::usleep(1000);
              require(slow.filled == kPages, "each page was filled once");
              require(g_ticks > 10, "the timer ticked");
              for (std::size_t i = 0; i < kPages; ++i)
                require(load(page_at(region, i).base) == 1, "nothing was filled over");
            }));
}

// An interrupted system call is restarted as its own signal's action says, faults or not.
TEST(Signals, FaultsDoNotInterruptSystemCallsOfOthers) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Opener opener;
                Region region = protected_region(id, opener);
                g_timer_region = &region;
                int ends[2];
                require(::pipe2(ends, O_CLOEXEC) == 0, "pipe");
                start_timer(500, SA_RESTART);
                std::thread writer([&] {
                  while (opener.faults <= 20) ::usleep(1000);
                  require(::write(ends[1], "x", 1) == 1, "write");
                });
                char byte = 0;
                require(::read(ends[0], &byte, 1) == 1, "restarted each time");
                writer.join();
                stop_timer();
              }));
  }
}

}  // namespace
}  // namespace pagetrap::hazards
