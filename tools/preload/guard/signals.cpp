// Signals: the handler of faults stays ours and stays open. The program sees what it installed, and
// gets the faults that are not ours.
#include <signal.h>

#include <pagetrap/guard/problem.hpp>

#include "common/exported.hpp"
#include "common/own_code.hpp"
#include "common/real.hpp"
#include "guard/heap.hpp"

using namespace pagetrap::preload;

namespace {

constinit Real<int(int, const struct sigaction*, struct sigaction*)> real_sigaction("sigaction");
constinit Real<sighandler_t(int, sighandler_t)> real_signal("signal");
constinit Real<int(int, const sigset_t*, sigset_t*)> real_sigprocmask("sigprocmask");
constinit Real<int(int, const sigset_t*, sigset_t*)> real_pthread_sigmask("pthread_sigmask");

bool is_ours(int signal) noexcept {
  return (signal == SIGSEGV || signal == SIGBUS) && the_heap.load() != nullptr;
}

void leave_open(sigset_t& set) noexcept {
  ::sigdelset(&set, SIGSEGV);
  ::sigdelset(&set, SIGBUS);
}

int change_mask(Real<int(int, const sigset_t*, sigset_t*)>& change, int how, const sigset_t* set,
                sigset_t* old) noexcept {
  if (set == nullptr || how == SIG_UNBLOCK || the_heap.load() == nullptr)
    return change(how, set, old);
  sigset_t reduced = *set;
  leave_open(reduced);
  return change(how, &reduced, old);
}

}  // namespace

PAGETRAP_EXPORT int sigaction(int signal, const struct sigaction* wanted,
                              struct sigaction* old) noexcept {
  if (is_own_code(__builtin_return_address(0))) return real_sigaction(signal, wanted, old);
  if (is_ours(signal)) {
    pagetrap::guard::previous_action(signal, wanted, old);
    return 0;
  }
  if (wanted == nullptr || the_heap.load() == nullptr) return real_sigaction(signal, wanted, old);
  struct sigaction reduced = *wanted;
  leave_open(reduced.sa_mask);
  return real_sigaction(signal, &reduced, old);
}

PAGETRAP_EXPORT sighandler_t signal(int number, sighandler_t handler) noexcept {
  if (!is_ours(number)) return real_signal(number, handler);
  struct sigaction wanted {};
  wanted.sa_handler = handler;
  wanted.sa_flags = SA_RESTART;
  struct sigaction old {};
  pagetrap::guard::previous_action(number, &wanted, &old);
  return old.sa_handler;
}

PAGETRAP_EXPORT int sigprocmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  return change_mask(real_sigprocmask, how, set, old);
}
PAGETRAP_EXPORT int pthread_sigmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  return change_mask(real_pthread_sigmask, how, set, old);
}
