// The fault handlers that a thread is inside of, and what to do about those that were left by
// siglongjmp: they never come back to give their region free.
#pragma once

#include "sys/thread_state.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {

/// Forget what is recorded at and above `depth`: those handlers do not run any more.
void forget_handlers_above(sys::ThreadState& self, int depth) noexcept PAGETRAP_SIGNAL_SAFE;

/// Called when a fault finds `self` inside handlers: forget those that have been left, as far as
/// `context` tells.
void forget_left_handlers(sys::ThreadState& self, const void* context) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// The record of one handler, for the time of its call.
class RunningHere {
 public:
  RunningHere(const Pinned& pinned, const void* context) noexcept PAGETRAP_SIGNAL_SAFE
      : self_(sys::this_thread()) {
    if (self_.handler_depth != 0) [[unlikely]]
      forget_left_handlers(self_, context);
    depth_ = self_.handler_depth++;
    if (static_cast<std::size_t>(depth_) < self_.handlers.size()) [[likely]]
      self_.handlers[static_cast<std::size_t>(depth_)] = {pinned.get(), context, pinned.phase()};
  }
  ~RunningHere() PAGETRAP_SIGNAL_SAFE {
    if (self_.handler_depth != depth_ + 1) [[unlikely]]
      forget_handlers_above(self_, depth_ + 1);
    self_.handler_depth = depth_;
  }
  RunningHere(const RunningHere&) = delete;
  RunningHere& operator=(const RunningHere&) = delete;

 private:
  sys::ThreadState& self_;
  int depth_;
};

/// While a handler answers a fault on a page that was protected, and not missing.
///
/// RACE a fault may be reported twice (a signal interrupted its thread), or be late: by the time
/// its handler opens the page, the thread it was for has gone on and emptied it. unprotect() makes
/// zeroes of a missing page, and they would be taken for contents. In such a handler it does not.
class Answering {
 public:
  explicit Answering(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE
      : self_(sys::this_thread()),
        outer_(self_.protected_page) {
    const bool empty = fault.kind == FaultKind::missing || fault.kind == FaultKind::minor;
    self_.protected_page = empty ? nullptr : fault.page.base;
  }
  ~Answering() PAGETRAP_SIGNAL_SAFE { self_.protected_page = outer_; }
  Answering(const Answering&) = delete;
  Answering& operator=(const Answering&) = delete;

 private:
  sys::ThreadState& self_;
  const void* outer_;
};

/// Whether `run`, missing by now, is what the handler in this thread was called to open.
inline bool was_emptied_meanwhile(PageRange run) noexcept PAGETRAP_SIGNAL_SAFE {
  return run.length == Pages{1} && sys::this_thread().protected_page == run.base;
}

/// In a fork()ed child, after all counts were forgotten: the handlers that this thread is inside of
/// go on here.
void count_own_handlers_again() noexcept;

/// Whether this thread is inside a fault handler of ours. Looks through the stack if it may be.
bool inside_handler() noexcept PAGETRAP_SIGNAL_SAFE;

/// Wait for the handlers of `state` that are running, and notice those that have been left. Callers
/// exclude each other; not from inside a handler of the region.
void wait_for_handlers(RegionState& state) noexcept;

}  // namespace v0
}  // namespace pagetrap
