// The gate: whoever works in a pager is inside, and fork() waits until nobody is. So a child finds
// every page in a lasting stage, every lock free, and nothing in transit.
#pragma once

#include <optional>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

class Engine;

/// Held by every path into the pager, nested ones included. The outermost blocks asynchronous
/// signals, so that no signal handler of the program runs here and faults on a page that this very
/// thread is bringing.
class Inside {
 public:
  Inside() noexcept PAGETRAP_SIGNAL_SAFE;
  ~Inside() PAGETRAP_SIGNAL_SAFE;
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  void leave_signals_to_sigreturn() noexcept PAGETRAP_SIGNAL_SAFE {
    if (signals_) signals_->leave_to_sigreturn();
  }

 private:
  std::optional<sys::AllSignalsBlocked> signals_;
};

/// pthread_atfork handlers, once; after the ground floor's own, which must run inside ours.
Result<Done> prepare_gate();

/// Engines to tell of a fork.
void enlist(Engine* engine);
void delist(Engine* engine) noexcept;

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
