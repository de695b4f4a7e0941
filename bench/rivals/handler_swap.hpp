// Who handles a signal, for the time of a rival's batch.
#pragma once

#include <signal.h>

namespace pagetrap::bench::rivals {

using SignalAction = struct sigaction;

/// Puts a rival's handler in place of whatever is there (pagetrap's), and that back at the end. Not
/// a part of what is timed.
class HandlerSwap {
 public:
  using Function = void (*)(int, siginfo_t*, void*);

  /// SA_NODEFER and an empty mask: the kernel then changes no signal mask on the way in. SA_ONSTACK
  /// makes no measurable difference.
  HandlerSwap(int signal_number, Function function) noexcept : signal_number_(signal_number) {
    SignalAction action{};
    action.sa_sigaction = function;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaction(signal_number, &action, &before_);
  }
  ~HandlerSwap() { sigaction(signal_number_, &before_, nullptr); }
  HandlerSwap(const HandlerSwap&) = delete;
  HandlerSwap& operator=(const HandlerSwap&) = delete;

 private:
  int signal_number_;
  SignalAction before_{};
};

}  // namespace pagetrap::bench::rivals
