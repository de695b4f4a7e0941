// Threads and signals: ours are told from the program's, and the signals that we need stay open.
#include <pthread.h>
#include <signal.h>

#include <new>

#include <pagetrap/vm/freeze.hpp>
#include <pagetrap/vm/signals.hpp>

#include "common/exported.hpp"
#include "common/own_code.hpp"
#include "memory/keeper.hpp"
#include "memory/real_calls.hpp"

namespace pagetrap::preload {

namespace real {
constinit Real<int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)> pthread_create(
    "pthread_create");
constinit Real<int(int, const sigset_t*, sigset_t*)> pthread_sigmask("pthread_sigmask");
}  // namespace real

namespace {

constinit Real<int(int, const sigset_t*, sigset_t*)> real_sigprocmask("sigprocmask");
constinit Real<int(int, const struct sigaction*, struct sigaction*)> real_sigaction("sigaction");
constinit Real<sighandler_t(int, sighandler_t)> real_signal("signal");

struct Start {
  void* (*routine)(void*);
  void* argument;
};

void* run_own_thread(void* start) {
  own_work = true;
  const Start todo = *static_cast<Start*>(start);
  delete static_cast<Start*>(start);
  return todo.routine(todo.argument);
}

void* run_with_alternate_stack(void* start) {
  {
    const OwnWork own;
    // Without one, faults are served on the thread's own stack, which is never paged.
    static_cast<void>(ensure_alternate_stack());
  }
  const Start todo = *static_cast<Start*>(start);
  {
    const OwnWork own;
    delete static_cast<Start*>(start);
  }
  return todo.routine(todo.argument);
}

/// What nobody may block: the signal that holds all threads, and those of faults.
void leave_open(sigset_t& set) noexcept {
  for (const int signal : {freeze_signal(), SIGSEGV, SIGBUS}) ::sigdelset(&set, signal);
}

int change_mask(Real<int(int, const sigset_t*, sigset_t*)>& change, int how, const sigset_t* set,
                sigset_t* old) noexcept {
  if (set == nullptr || keeper == nullptr || own_work || how == SIG_UNBLOCK)
    return change(how, set, old);
  sigset_t reduced = *set;
  leave_open(reduced);
  return change(how, &reduced, old);
}

/// The program has put a handler where ours was: ours goes in front of it again.
void stay_in_front(int signal) noexcept {
  if ((signal != SIGBUS && signal != SIGSEGV) || keeper == nullptr || !keeper->prepared()) return;
  const OwnWork own;
  static_cast<void>(install_signal_handlers());  // else faults go to the program's handler first
}

}  // namespace
}  // namespace pagetrap::preload

using namespace pagetrap::preload;

PAGETRAP_EXPORT int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                   void* (*routine)(void*), void* argument) noexcept {
  const bool ours = own_work || is_own_code(__builtin_return_address(0));
  if (!ours && (keeper == nullptr || !keeper->needs_holds()))
    return real::pthread_create(thread, attributes, routine, argument);
  Start* start = nullptr;
  {
    const OwnWork own;
    start = new (std::nothrow) Start{routine, argument};
  }
  if (start == nullptr) return EAGAIN;
  const int error = real::pthread_create(thread, attributes,
                                         ours ? run_own_thread : run_with_alternate_stack, start);
  if (error != 0) {
    const OwnWork own;
    delete start;
  }
  return error;
}

PAGETRAP_EXPORT int pthread_sigmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  return change_mask(real::pthread_sigmask, how, set, old);
}
PAGETRAP_EXPORT int sigprocmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  return change_mask(real_sigprocmask, how, set, old);
}

PAGETRAP_EXPORT int sigaction(int signal, const struct sigaction* action,
                              struct sigaction* old) noexcept {
  if (action == nullptr || keeper == nullptr || own_work)
    return real_sigaction(signal, action, old);
  struct sigaction reduced = *action;
  leave_open(reduced.sa_mask);
  const int result = real_sigaction(signal, &reduced, old);
  if (result == 0) stay_in_front(signal);
  return result;
}

PAGETRAP_EXPORT sighandler_t signal(int number, sighandler_t handler) noexcept {
  const sighandler_t old = real_signal(number, handler);
  if (old != SIG_ERR) stay_in_front(number);
  return old;
}
