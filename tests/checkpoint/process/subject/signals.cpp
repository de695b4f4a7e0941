#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "stage.hpp"

namespace subject {
namespace {

std::atomic<int> count{0};
std::atomic<int> value{0};
void count_one(int) { ++count; }
void note_value(int, siginfo_t* info, void*) {
  ++count;
  value = info->si_value.sival_int;
}

const Registered kDispositions("dispositions", [](Stage& stage) {
  struct sigaction action {};
  action.sa_handler = count_one;
  action.sa_flags = SA_RESTART | SA_NODEFER;
  ::sigaddset(&action.sa_mask, SIGUSR2);
  ::sigaddset(&action.sa_mask, SIGRTMAX);
  ::sigaction(SIGUSR1, &action, nullptr);
  action = {};
  action.sa_sigaction = note_value;
  action.sa_flags = static_cast<int>(SA_SIGINFO | SA_RESETHAND);
  ::sigaction(SIGRTMAX, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGTRAP, count_one);
  sigset_t mask;
  ::sigemptyset(&mask);
  ::sigaddset(&mask, SIGHUP);
  ::sigaddset(&mask, SIGRTMIN + 3);
  ::sigprocmask(SIG_BLOCK, &mask, nullptr);
  stage.wait_for_go();
  struct sigaction now {};
  ::sigaction(SIGUSR1, nullptr, &now);
  stage.expect(
      now.sa_handler == count_one && (now.sa_flags & ~0x04000000) == (SA_RESTART | SA_NODEFER) &&
          ::sigismember(&now.sa_mask, SIGUSR2) == 1 && ::sigismember(&now.sa_mask, SIGRTMAX) == 1 &&
          ::sigismember(&now.sa_mask, SIGHUP) == 0,
      "handler, flags and mask");
  ::raise(SIGUSR1);
  stage.expect(count == 1, "a handler runs");
  ::sigqueue(::getpid(), SIGRTMAX, sigval{.sival_int = 77});
  stage.expect(count == 2 && value == 77, "one with SA_SIGINFO");
  ::sigaction(SIGRTMAX, nullptr, &now);
  stage.expect(now.sa_handler == SIG_DFL, "SA_RESETHAND");
  ::sigaction(SIGPIPE, nullptr, &now);
  stage.expect(now.sa_handler == SIG_IGN, "ignored");
  ::sigaction(SIGTRAP, nullptr, &now);
  stage.expect(now.sa_handler == count_one, "SIGTRAP");
  ::raise(SIGTRAP);
  stage.expect(count == 3, "SIGTRAP's handler runs");
  ::sigaction(SIGTERM, nullptr, &now);
  stage.expect(now.sa_handler == SIG_DFL, "default");
  sigset_t blocked;
  ::sigprocmask(SIG_BLOCK, nullptr, &blocked);
  for (int signal = 1; signal < 65; ++signal) {
    if (signal == 32 || signal == 33) continue;  // glibc's own
    const bool wanted = signal == SIGHUP || signal == SIGRTMIN + 3;
    stage.expect((::sigismember(&blocked, signal) == 1) == wanted,
                 "whether signal " + std::to_string(signal) + " is blocked");
  }
});

siginfo_t take(int signal) {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, signal);
  siginfo_t info{};
  const timespec none{};
  if (::sigtimedwait(&set, &info, &none) < 0) info.si_signo = 0;
  return info;
}

const Registered kPending("pending_signals", [](Stage& stage) {
  sigset_t set;
  ::sigfillset(&set);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::atomic<pid_t> other{0};
  std::atomic<bool> over{false};
  std::atomic<int> got{0};
  std::thread thread([&] {
    other = ::gettid();
    while (!over) sleep_ms(1);
    got = take(SIGUSR2).si_signo * 100 + take(SIGRTMIN + 1).si_value.sival_int;
  });
  while (other == 0) sleep_ms(1);
  ::kill(::getpid(), SIGTERM);                               // of the process
  ::syscall(SYS_tgkill, ::getpid(), ::gettid(), SIGUSR1);    // of this thread
  ::syscall(SYS_tgkill, ::getpid(), other.load(), SIGUSR2);  // of the other
  ::pthread_sigqueue(thread.native_handle(), SIGRTMIN + 1, sigval{.sival_int = 9});
  for (int i = 0; i < 5; ++i) ::sigqueue(::getpid(), SIGRTMIN + 2, sigval{.sival_int = i});
  ::sigqueue(::getpid(), SIGRTMIN + 1, sigval{.sival_int = 5});
  stage.wait_for_go();
  const siginfo_t term = take(SIGTERM);
  stage.expect(term.si_signo == SIGTERM && term.si_code == SI_USER && term.si_pid == ::getpid(),
               "of the process");
  stage.expect(take(SIGUSR1).si_signo == SIGUSR1, "of the thread");
  for (int i = 0; i < 5; ++i) {
    const siginfo_t each = take(SIGRTMIN + 2);
    stage.expect(each.si_signo != 0 && each.si_value.sival_int == i, "queued, in order");
  }
  stage.expect(take(SIGRTMIN + 2).si_signo == 0, "not more than there were");
  over = true;
  thread.join();
  stage.expect(got == SIGUSR2 * 100 + 9, "of the other thread");
  stage.expect(take(SIGRTMIN + 1).si_value.sival_int == 5, "the same signal, of the process");
});

Stage* stage_in_handler = nullptr;
char* alternate = nullptr;
constexpr std::size_t kAlternateBytes = 64 * 1024;
thread_local int errno_before = 0;

void wait_on_alternate(int, siginfo_t*, void* context) {
  const char here = 0;
  Stage& stage = *stage_in_handler;
  stage.expect(&here > alternate && &here < alternate + kAlternateBytes, "on the alternate stack");
  stage.wait_for_go();
  stack_t now{};
  ::sigaltstack(nullptr, &now);
  stage.expect((now.ss_flags & SS_ONSTACK) != 0, "still on it");
  stack_t other{};
  other.ss_flags = SS_DISABLE;
  stage.expect(::sigaltstack(&other, nullptr) == -1 && errno == EPERM, "it cannot be changed now");
  stage.expect(static_cast<ucontext_t*>(context)->uc_stack.ss_sp == alternate, "in its frame");
}

const Registered kAlternate("alternate_stack", [](Stage& stage) {
  alternate = static_cast<char*>(
      ::mmap(nullptr, kAlternateBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  stack_t stack{};
  stack.ss_sp = alternate;
  stack.ss_size = kAlternateBytes;
  ::sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_sigaction = wait_on_alternate;
  action.sa_flags = SA_ONSTACK | SA_SIGINFO;
  ::sigaddset(&action.sa_mask, SIGUSR2);
  ::sigaction(SIGUSR1, &action, nullptr);
  stage_in_handler = &stage;
  errno = 4711;
  errno_before = errno;
  double before = 1.5;
  asm volatile("" : "+x"(before));
  ::raise(SIGUSR1);  // returns after the restart, through a frame from before it
  asm volatile("" : "+x"(before));
  stage.expect(before == 1.5, "a register over the handler");
  stage.expect(errno_before == 4711, "thread-local");
  stack_t now{};
  ::sigaltstack(nullptr, &now);
  stage.expect(now.ss_sp == alternate && now.ss_size == kAlternateBytes && now.ss_flags == 0,
               "the stack afterwards");
  sigset_t mask;
  ::sigprocmask(SIG_BLOCK, nullptr, &mask);
  stage.expect(::sigismember(&mask, SIGUSR1) == 0 && ::sigismember(&mask, SIGUSR2) == 0,
               "the mask afterwards");
});

}  // namespace
}  // namespace subject
