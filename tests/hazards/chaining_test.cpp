// Living with other owners of SIGSEGV and SIGBUS: those before us, those after us, the default
// action, and signals that somebody sent.
#include <setjmp.h>
#include <sys/ptrace.h>

#include "hazards/support.hpp"

namespace pagetrap::hazards {
namespace {

// What the other owner of the signal saw.
struct Seen {
  std::atomic<int> calls{0};
  int signal = 0;
  int code = 0;
  void* address = nullptr;
  sigset_t mask{};
};
Seen g_seen;
struct sigaction g_previous_of_newcomer;
sigjmp_buf g_way_out;

void note(int signal, siginfo_t* info) {
  g_seen.calls.fetch_add(1);
  g_seen.signal = signal;
  if (info != nullptr) {
    g_seen.code = info->si_code;
    g_seen.address = info->si_addr;
  }
  ::pthread_sigmask(SIG_BLOCK, nullptr, &g_seen.mask);
}

void open_foreign_page(int signal, siginfo_t* info, void*) {
  note(signal, info);
  if (info->si_code > 0)
    ::mprotect(page_of(info->si_addr).base, page_size(), PROT_READ | PROT_WRITE);
}

std::byte* g_page_of_plain_handler = nullptr;
void plain_handler(int signal) {
  note(signal, nullptr);
  ::mprotect(g_page_of_plain_handler, page_size(), PROT_READ | PROT_WRITE);
}

void leave_by_longjmp(int signal, siginfo_t* info, void*) {
  note(signal, info);
  ::siglongjmp(g_way_out, 1);
}

// A well-behaved newcomer: what is not its own goes to the action that sigaction() returned.
void pass_on(int signal, siginfo_t* info, void* context) {
  note(signal, info);
  require(g_seen.calls.load() < 100, "the newcomer is not called round in a circle");
  if ((g_previous_of_newcomer.sa_flags & SA_SIGINFO) != 0) {
    g_previous_of_newcomer.sa_sigaction(signal, info, context);
  } else if (g_previous_of_newcomer.sa_handler == SIG_DFL) {
    ::signal(signal, SIG_DFL);
  } else {
    g_previous_of_newcomer.sa_handler(signal);
  }
}

void install(int signal, void (*handler)(int, siginfo_t*, void*), int flags,
             struct sigaction* previous = nullptr, std::initializer_list<int> blocked = {}) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  ::sigemptyset(&action.sa_mask);
  for (const int other : blocked) ::sigaddset(&action.sa_mask, other);
  require(::sigaction(signal, &action, previous) == 0, "sigaction");
}

void install_simple(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  require(::sigaction(signal, &action, nullptr) == 0, "sigaction");
}

// A region of 4 pages whose faults are SIGSEGV (mprotect) or SIGBUS, all protected against writes.
struct Trapped {
  Region region;
  Opener opener;
  explicit Trapped(BackendId id = BackendId::mprotect) {
    region = must(Region::create(4 * page_size(), options_for(id, FaultKind::write_protected)),
                  "create");
    must(region.on_fault(Opener::open, &opener), "on_fault");
    protect_again();
  }
  void protect_again() { must(region.protect(region.range(), Access::read), "protect"); }
  void fault_once(const char* what) {
    protect_again();
    const int before = opener.faults.load();
    store(region.data(), 7);
    require(opener.faults.load() == before + 1, what);
  }
};

bool blocked_in_handler(int signal) { return ::sigismember(&g_seen.mask, signal) == 1; }

TEST(Chaining, HandlerBeforeOursGetsForeignFaultsWithItsMaskAndNoneOfOurs) {
  EXPECT_EQ(kSucceeded, in_child([] {
              install(SIGSEGV, open_foreign_page, 0, nullptr, {SIGUSR1, SIGWINCH});
              Trapped ours;
              ours.fault_once("our fault is served");
              require(g_seen.calls == 0, "our fault does not reach the other handler");
              std::byte* const page = foreign_pages(1, PROT_NONE);
              store(page + 5, 1);
              require(g_seen.calls == 1, "the foreign fault reaches it, once");
              require(g_seen.address == page + 5 && g_seen.code == SEGV_ACCERR, "its siginfo");
              require(blocked_in_handler(SIGUSR1) && blocked_in_handler(SIGWINCH), "its sa_mask");
              require(blocked_in_handler(SIGSEGV), "no SA_NODEFER: its own signal is blocked");
              require(!blocked_in_handler(SIGBUS), "nothing else is blocked");
              sigset_t after;
              ::pthread_sigmask(SIG_BLOCK, nullptr, &after);
              require(::sigismember(&after, SIGUSR1) == 0 && ::sigismember(&after, SIGSEGV) == 0,
                      "the mask is restored");
              ours.fault_once("and ours goes on");
            }));
}

TEST(Chaining, NodeferOfAnEarlierHandlerIsHonoured) {
  EXPECT_EQ(kSucceeded, in_child([] {
              install(SIGSEGV, open_foreign_page, SA_NODEFER);
              Trapped ours;
              store(foreign_pages(1, PROT_NONE), 1);
              require(g_seen.calls == 1 && !blocked_in_handler(SIGSEGV), "SA_NODEFER");
            }));
}

TEST(Chaining, HandlerWithoutSiginfoIsCalledWithTheSignalOnly) {
  EXPECT_EQ(kSucceeded, in_child([] {
              g_page_of_plain_handler = foreign_pages(1, PROT_NONE);
              install_simple(SIGSEGV, plain_handler);
              Trapped ours;
              store(g_page_of_plain_handler, 1);
              require(g_seen.calls == 1 && g_seen.signal == SIGSEGV, "called");
            }));
}

TEST(Chaining, ForeignSigbusOfATruncatedFileGoesToItsHandler) {
  EXPECT_EQ(kSucceeded, in_child([] {
              install(SIGBUS, leave_by_longjmp, 0);
              Trapped ours;
              const int file = ::memfd_create("truncated", MFD_CLOEXEC);
              require(::ftruncate(file, static_cast<off_t>(page_size())) == 0, "ftruncate");
              static std::byte* page = nullptr;
              page = static_cast<std::byte*>(
                  ::mmap(nullptr, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
              require(::ftruncate(file, 0) == 0, "ftruncate to nothing");
              if (::sigsetjmp(g_way_out, 1) == 0) {
                store(page, 1);
                require(false, "a page beyond the end of its file cannot be written");
              }
              require(g_seen.calls == 1 && g_seen.code == BUS_ADRERR, "SIGBUS passed on");
            }));
}

TEST(Chaining, DeclinedFaultGoesToTheEarlierHandler) {
  for (const BackendId id : inline_backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                install(SIGSEGV, leave_by_longjmp, 0);
                install(SIGBUS, leave_by_longjmp, 0);
                Trapped ours(id);
                must(ours.region.on_fault(
                         [](void*, const Fault&) noexcept { return Verdict::not_mine; }, nullptr),
                     "on_fault");
                if (::sigsetjmp(g_way_out, 1) == 0) {
                  store(ours.region.data(), 1);
                  require(false, "nobody opened the page");
                }
                require(g_seen.calls == 1, "the earlier handler decides");
              }));
  }
}

TEST(Chaining, DeclinedFaultInAHandlerThreadEndsTheFaultingThreadsWait) {
  EXPECT_EQ(killed_by(SIGSEGV), in_child([] {
              Trapped ours(BackendId::uffd_thread);
              must(ours.region.on_fault(
                       [](void*, const Fault&) noexcept { return Verdict::not_mine; }, nullptr),
                   "on_fault");
              store(ours.region.data(), 1);
            }));
}

// The signal is raised by the access itself, once its page is closed: like any fault it can be
// neither blocked nor ignored.
TEST(Chaining, DeclinedFaultInAHandlerThreadKillsAThreadThatBlocksOrIgnoresTheSignal) {
  if (!capabilities(BackendId::uffd_thread, Backing::anonymous).handler_thread)
    GTEST_SKIP() << "no userfaultfd here";
  for (const bool blocks : {false, true}) {
    SCOPED_TRACE(blocks ? "blocks" : "ignores");
    EXPECT_EQ(killed_by(SIGSEGV), in_child([blocks] {
                if (!blocks) ::signal(SIGSEGV, SIG_IGN);
                Trapped ours(BackendId::uffd_thread);
                must(ours.region.on_fault(
                         [](void*, const Fault&) noexcept { return Verdict::not_mine; }, nullptr),
                     "on_fault");
                sigset_t faults;
                ::sigemptyset(&faults);
                ::sigaddset(&faults, SIGSEGV);
                if (blocks) ::pthread_sigmask(SIG_BLOCK, &faults, nullptr);
                store(ours.region.data(), 1);
              }));
  }
}

// Watches a child under ptrace. What it was stopped for, by whom, and where.
struct Stop {
  void* address;
  std::uint64_t instruction;
};
End trace_to_the_end(pid_t child, std::vector<Stop>& faults) {
  for (;;) {
    int status = 0;
    if (::waitpid(child, &status, 0) < 0) return {};
    if (WIFSIGNALED(status)) return killed_by(WTERMSIG(status));
    if (WIFEXITED(status)) return exited(WEXITSTATUS(status));
    const int signal = WSTOPSIG(status);
    if (signal == SIGSEGV) {
      siginfo_t info{};
      ::ptrace(PTRACE_GETSIGINFO, child, nullptr, &info);
      __ptrace_syscall_info where{};
      ::ptrace(static_cast<__ptrace_request>(PTRACE_GET_SYSCALL_INFO), child, sizeof where, &where);
      faults.push_back({info.si_addr, where.instruction_pointer});
    }
    ::ptrace(PTRACE_CONT, child, nullptr, signal == SIGSTOP ? 0 : signal);
  }
}

// A core dump must show the faulting instruction and not one of ours.
TEST(Chaining, DefaultActionHappensAtTheFaultingInstruction) {
  for (const auto action : {SIG_DFL, SIG_IGN}) {  // the kernel lets no fault be ignored either
    SCOPED_TRACE(action == SIG_DFL ? "SIG_DFL" : "SIG_IGN");
    int address_pipe[2];
    ASSERT_EQ(0, ::pipe2(address_pipe, O_CLOEXEC));
    const pid_t child = start_child([&] {
      require(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0, "ptrace");
      ::raise(SIGSTOP);
      ::signal(SIGSEGV, action);
      Trapped ours;
      std::byte* const page = foreign_pages(1, PROT_NONE);
      require(::write(address_pipe[1], &page, sizeof page) == sizeof page, "write");
      store(page + 123, 1);
    });
    std::vector<Stop> faults;
    EXPECT_EQ(killed_by(SIGSEGV), trace_to_the_end(child, faults));
    std::byte* page = nullptr;
    ASSERT_EQ(static_cast<ssize_t>(sizeof page), ::read(address_pipe[0], &page, sizeof page));
    ASSERT_EQ(2U, faults.size()) << "raised, passed on, raised again under the default action";
    EXPECT_EQ(page + 123, faults[0].address);
    EXPECT_EQ(page + 123, faults[1].address);
    EXPECT_EQ(faults[0].instruction, faults[1].instruction);
    ::close(address_pipe[0]);
    ::close(address_pipe[1]);
  }
}

TEST(Chaining, SentSignalGoesToTheEarlierHandlerAndNeverToARegion) {
  EXPECT_EQ(kSucceeded, in_child([] {
              install(SIGSEGV, open_foreign_page, 0);
              Trapped ours;
              ::kill(::getpid(), SIGSEGV);
              require(g_seen.calls == 1 && g_seen.code == SI_USER, "kill()");
              ::raise(SIGSEGV);
              require(g_seen.calls == 2 && g_seen.code == SI_TKILL, "raise()");
              // A sender may put anything into the siginfo: an address in a region means nothing.
              siginfo_t forged{};
              forged.si_code = SI_QUEUE;
              forged.si_addr = ours.region.data();
              ::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), thread_id(), SIGSEGV, &forged);
              require(g_seen.calls == 3 && ours.opener.faults == 0, "a forged address");
            }));
}

TEST(Chaining, SentSignalUnderTheDefaultActionKills) {
  for (const int signal : {SIGSEGV, SIGBUS}) {
    EXPECT_EQ(killed_by(signal), in_child([signal] {
                Trapped ours;
                ::raise(signal);
              }));
  }
}

TEST(Chaining, SentSignalThatIsIgnoredIsIgnored) {
  EXPECT_EQ(kSucceeded, in_child([] {
              ::signal(SIGSEGV, SIG_IGN);
              Trapped ours;
              ::raise(SIGSEGV);
              ours.fault_once("our faults are still served");
            }));
}

TEST(Chaining, ResethandOfAnEarlierHandlerIsHonoured) {
  EXPECT_EQ(killed_by(SIGSEGV), in_child([] {
              install(SIGSEGV, open_foreign_page, static_cast<int>(SA_RESETHAND));
              Trapped ours;
              store(foreign_pages(1, PROT_NONE), 1);
              require(g_seen.calls == 1, "the first one is handled");
              ours.fault_once("ours in between");
              store(foreign_pages(1, PROT_NONE), 1);  // the second one is not
            }));
}

// Whether a system call that a sent SIGSEGV interrupts is restarted is decided by the action in
// front, which is ours: it must have taken over the flag.
TEST(Chaining, RestartOfAnEarlierHandlerIsHonoured) {
  for (const bool restart : {true, false}) {
    SCOPED_TRACE(restart ? "SA_RESTART" : "no SA_RESTART");
    EXPECT_EQ(kSucceeded, in_child([restart] {
                install(SIGSEGV, open_foreign_page, restart ? SA_RESTART : 0);
                Trapped ours;
                int ends[2];
                require(::pipe2(ends, O_CLOEXEC) == 0, "pipe");
                const pid_t reader = ::getpid();
                const pid_t sender = ::fork();
                if (sender == 0) {
                  ::usleep(100'000);
                  ::kill(reader, SIGSEGV);
                  ::usleep(100'000);
                  ::_exit(::write(ends[1], "x", 1) == 1 ? 0 : 1);
                }
                char byte = 0;
                const ssize_t got = ::read(ends[0], &byte, 1);
                require(restart ? got == 1 : got < 0 && errno == EINTR, "restarted or not");
                require(wait_for(sender) == kSucceeded, "the sender");
              }));
  }
}

TEST(Chaining, NewcomerThatPassesForeignFaultsOnLosesNone) {
  EXPECT_EQ(kSucceeded, in_child([] {
              Trapped ours;
              install(SIGSEGV, pass_on, SA_NODEFER, &g_previous_of_newcomer);
              require(!signal_handlers_in_front(), "the newcomer is in front");
              for (int i = 1; i <= 20; ++i) {
                ours.fault_once("served behind the newcomer");
                require(g_seen.calls == i, "which saw it first");
              }
            }));
}

// A newcomer's flags are what the kernel goes by. Without SA_NODEFER its signal is blocked while
// our handler runs behind it, and the kernel kills at a fault in that.
TEST(Chaining, ANewcomersFlagsRule) {
  for (const BackendId id : inline_backends_for(FaultKind::write_protected)) {
    const int signal = id == BackendId::mprotect ? SIGSEGV : SIGBUS;
    for (const bool again : {false, true}) {
      SCOPED_TRACE(std::string(name(id)) + (again ? ", installed again" : ", newcomer in front"));
      EXPECT_EQ(again ? kSucceeded : killed_by(signal), in_child([id, signal, again] {
                  Trapped ours(id);
                  const auto touch_next = [](void* self, const Fault& fault) noexcept {
                    if (fault.page.base == fault.region->data()) store(fault.page.end(), 1);
                    return Opener::open(self, fault);
                  };
                  must(ours.region.on_fault(touch_next, &ours.opener), "on_fault");
                  install(signal, pass_on, 0, &g_previous_of_newcomer);
                  store(page_at(ours.region, 2).base, 1);
                  require(ours.opener.faults == 1 && g_seen.calls == 1, "one fault is served");
                  if (again) must(install_signal_handlers(), "install again");
                  store(ours.region.data(), 1);
                  require(ours.opener.faults == 3 && g_seen.calls == 1, "and one inside another");
                }));
    }
  }
}

TEST(Chaining, InstallingAgainPutsUsInFrontOfANewcomer) {
  EXPECT_EQ(kSucceeded, in_child([] {
              Trapped ours;
              install(SIGSEGV, open_foreign_page, 0);
              must(install_signal_handlers(), "install again");
              require(signal_handlers_in_front(), "in front");
              must(install_signal_handlers(), "idempotent");
              ours.fault_once("ours");
              require(g_seen.calls == 0, "ours never reaches the newcomer");
              store(foreign_pages(1, PROT_NONE), 1);
              require(g_seen.calls == 1, "a foreign fault does");
            }));
}

TEST(Chaining, TwoLibrariesThatPassToEachOtherDoNotLoop) {
  EXPECT_EQ(killed_by(SIGSEGV), in_child([] {
              Trapped ours;
              install(SIGSEGV, pass_on, SA_NODEFER, &g_previous_of_newcomer);  // to us
              must(install_signal_handlers(), "install again");                // we to it
              ours.fault_once("ours");
              store(foreign_pages(1, PROT_NONE), 1);
            }));
}

TEST(Chaining, TheOldestOfThreePassesIsCalledOnce) {
  EXPECT_EQ(kSucceeded, in_child([] {
              static std::atomic<int> oldest{0};
              install(
                  SIGSEGV,
                  [](int, siginfo_t* info, void*) {
                    oldest.fetch_add(1);
                    ::mprotect(page_of(info->si_addr).base, page_size(), PROT_READ | PROT_WRITE);
                  },
                  0);
              Trapped ours;
              install(SIGSEGV, pass_on, SA_NODEFER, &g_previous_of_newcomer);
              must(install_signal_handlers(), "install again");
              install(SIGSEGV, pass_on, SA_NODEFER, &g_previous_of_newcomer);  // and it again
              for (int i = 1; i <= 20; ++i) {
                store(foreign_pages(1, PROT_NONE), 1);
                require(oldest == i, "the oldest handler sees each foreign fault once");
                g_seen.calls = 0;
                ours.fault_once("ours");
                g_seen.calls = 0;
              }
            }));
}

// A handler in front of which we sit may probe memory and leave by siglongjmp, again and again. It
// must not leave anything behind that the next fault at the same stack depth stumbles over.
TEST(Chaining, EarlierHandlerMayLeaveBySiglongjmp) {
  for (const bool alternate : {false, true}) {
    SCOPED_TRACE(alternate ? "alternate stack" : "own stack");
    EXPECT_EQ(kSucceeded, in_child([alternate] {
                install(SIGSEGV, leave_by_longjmp, 0);
                if (alternate) must(ensure_alternate_stack(), "alternate stack");
                Trapped ours;
                // Static, as they live across siglongjmp.
                static std::byte* page = nullptr;
                static int times = 0;
                page = foreign_pages(1, PROT_NONE);
                while (++times <= 500) {
                  if (::sigsetjmp(g_way_out, 1) == 0) {
                    store(page, 1);
                    require(false, "the page is closed");
                  }
                  require(g_seen.calls == times, "foreign");
                  ours.fault_once("ours, just after");
                }
                must(ours.region.on_fault(nullptr, nullptr), "not inside a handler any more");
              }));
  }
}

// A foreign handler that uses memory of ours while it handles a fault of its own.
TEST(Chaining, EarlierHandlerMayTouchARegion) {
  EXPECT_EQ(kSucceeded, in_child([] {
              static Trapped* region = nullptr;
              install(
                  SIGSEGV,
                  [](int, siginfo_t* info, void*) {
                    store(region->region.data(), 9);
                    ::mprotect(page_of(info->si_addr).base, page_size(), PROT_READ | PROT_WRITE);
                  },
                  SA_NODEFER);
              Trapped ours;
              region = &ours;
              store(foreign_pages(1, PROT_NONE), 1);
              require(ours.opener.faults == 1 && load(ours.region.data()) == 9, "nested");
            }));
}

TEST(Chaining, ALibraryThatKeepsReplacingUsGetsAnErrorAtLast) {
  EXPECT_EQ(kSucceeded, in_child([] {
              Trapped ours;
              bool refused = false;
              for (int i = 0; i < 20 && !refused; ++i) {
                install(SIGSEGV, pass_on, SA_NODEFER, &g_previous_of_newcomer);
                const auto installed = install_signal_handlers();
                refused = !installed;
                if (refused)
                  require(installed.error().number == ELOOP && *installed.error().remedy != '\0',
                          "ELOOP with a remedy");
              }
              require(refused, "the chain is bounded");
              ours.fault_once("the newcomer passes on, so ours is served");
            }));
}

}  // namespace
}  // namespace pagetrap::hazards
