// Threads of ours take none of the program's signals.
#pragma once

#include <signal.h>

#include <pagetrap/vm/freeze.hpp>

namespace pagetrap {
inline namespace v0 {
/// While it lives, threads that are started inherit the mask: all but what their own instructions
/// raise, and the broadcasts, which must reach everybody.
class NoSignals {
 public:
  NoSignals() {
    sigset_t blocked;
    ::sigfillset(&blocked);
    for (const int taken : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, freeze_signal()})
      ::sigdelset(&blocked, taken);
    ::pthread_sigmask(SIG_SETMASK, &blocked, &old_);
  }
  ~NoSignals() { ::pthread_sigmask(SIG_SETMASK, &old_, nullptr); }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t old_;
};

}  // namespace v0
}  // namespace pagetrap
