#include "vm/dispatch.hpp"

#include <signal.h>

#include "sys/protection_key.hpp"
#include "sys/signal_frame.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/thread_state.hpp"
#include "trace/switched_on.hpp"
#include "vm/dirty_tracker.hpp"
#include "vm/keys.hpp"
#include "vm/running.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

std::uint64_t fault_detail(const Fault& fault, std::uint64_t started) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t took = sys::monotonic_nanoseconds() - started;
  return static_cast<std::uint64_t>(fault.kind) | std::uint64_t{fault.write} << 8 | took << 16;
}

// RACE a fault raised while the region was frozen, and looked at after the thaw: the page is open
// and the access runs again. But a page may be closed by somebody else's mprotect() while the table
// calls it open, and that must end: the same address twice without a thaw in between is not ours.
bool raised_before_thaw(const RegionState& state, const Fault& fault) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (!state.options.freezable) return false;
  const PageState now = state.pages.get(fault.address);
  if (now != PageState::read_write && (now != PageState::read || fault.write)) return false;
  sys::ThreadState& self = sys::this_thread();
  const std::uint32_t thaws = state.thaws.load(std::memory_order_seq_cst);
  if (thaws == 0) return false;
  if (self.stale_address == fault.address && self.stale_thaws == thaws) return false;
  self.stale_address = fault.address;
  self.stale_thaws = thaws;
  return true;
}

// The handler of a region without one: a frozen region's threads wait, others are not ours.
Verdict without_handler(const RegionState& state, const Fault& fault) noexcept
    PAGETRAP_SIGNAL_SAFE {
  return fault.frozen || raised_before_thaw(state, fault) ? Verdict::retry : Verdict::not_mine;
}

[[gnu::hot]] Verdict call_handler(RegionState& state, const Fault& fault) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (!state.has_handler.load(std::memory_order_acquire)) return without_handler(state, fault);
  const HandlerSlot slot = state.current_handler();
  if (slot.handler == nullptr) return without_handler(state, fault);
  const Answering answering(fault);
  return slot.handler(slot.self, fault);
}

// A lift is taking the page tables away, or about to say where they are: run the access again.
bool is_being_lifted(const RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE {
  return state.liftable && state.lift_phase.load(std::memory_order_seq_cst) == LiftPhase::moving;
}

// A missing page of a lifted region, unless its handler asked for missing faults.
bool handled_by_lift(const RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE {
  return state.liftable &&
         (!state.wants(FaultKind::missing) || !state.has_handler.load(std::memory_order_relaxed));
}

}  // namespace

[[gnu::hot]] pid_t current_thread() noexcept PAGETRAP_SIGNAL_SAFE {
  sys::ThreadState& self = sys::this_thread();
  if (self.id == 0) self.id = sys::thread_id();
  return self.id;
}

void forget_current_thread() noexcept { sys::this_thread().id = 0; }

namespace {

[[gnu::always_inline]] inline FaultKind kind_of(const RegionState& state, const std::byte* address,
                                                bool write, bool present) noexcept
    PAGETRAP_SIGNAL_SAFE {
  // What most faults are, without the jump table below.
  const PageState known = state.pages.get(address);
  if (known == PageState::read && write) [[likely]]
    return FaultKind::write_protected;
  switch (known) {
    case PageState::missing:
      // With both kinds asked for, a page that another thread filled in the backing is minor. In
      // the faulting thread the kernel does not say which it was; the page cache knows.
      return state.wants(FaultKind::minor) && sys::in_core(page_of(address)) ? FaultKind::minor
                                                                             : FaultKind::missing;
    case PageState::evicted:
      return FaultKind::minor;
    case PageState::none:
    case PageState::guard:
      return FaultKind::no_access;
    case PageState::read:
      if (write) return FaultKind::write_protected;
      break;
    case PageState::read_write:
      break;
  }
  // Resolved by another thread since it was raised, or its state is changing right now (RACE
  // double-fault), or a page that nobody ever wrote, after a lift: name it by what the region can
  // raise; the handler is idempotent. Best by what makes it supply contents, which leaves a page
  // alone that has some: it may be discarded before the handler looks.
  if (write && present && state.wants(FaultKind::write_protected))
    return FaultKind::write_protected;
  if (state.wants(FaultKind::minor)) return FaultKind::minor;
  if (state.wants(FaultKind::missing) || state.liftable) return FaultKind::missing;
  return write ? FaultKind::write_protected : FaultKind::no_access;
}

}  // namespace

FaultKind classify(const RegionState& state, const std::byte* address, bool write,
                   bool present) noexcept PAGETRAP_SIGNAL_SAFE {
  return kind_of(state, address, write, present);
}

[[gnu::hot]] Verdict deliver(RegionState& state, Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  const bool traced = trace::switched_on(trace::Kind::fault);
  const std::uint64_t started = traced ? sys::monotonic_nanoseconds() : 0;
  fault.region = &state.handle;
  fault.frozen = state.frozen.load(std::memory_order_acquire) != 0;
  Verdict verdict = Verdict::resolved;
  if (is_being_lifted(state)) {
    sys::yield();
    return Verdict::retry;
  }
  if (fault.kind == FaultKind::missing && handled_by_lift(state)) {
    verdict = restore_lifted(state, fault.page) ? Verdict::resolved : Verdict::not_mine;
    if (traced) trace::record(trace::Kind::fault, fault.address, fault_detail(fault, started));
    return verdict;
  }
  const bool tracked = state.tracker != nullptr && fault.write && !fault.frozen &&
                       fault.kind == FaultKind::write_protected &&
                       state.tracker->on_write_fault(state, fault.page);
  if (!tracked) verdict = call_handler(state, fault);
  if (traced) trace::record(trace::Kind::fault, fault.address, fault_detail(fault, started));
  return verdict;
}

namespace {

// Regions of the uffd-thread backend or of adopted memory, with a protection key, a lift or a
// tracker, freezable ones, and faults that are traced.
[[gnu::noinline]] bool dispatch_special(RegionState& state, Fault& fault, int signal, int code,
                                        bool present) noexcept PAGETRAP_SIGNAL_SAFE {
  if (!state.range.contains(fault.address)) return fill_hole(state, fault.page);  // lift's window
  if (state.key >= 0 && code == SEGV_PKUERR) return resolve_key_fault(state, fault);
  // Its faults come to handler threads. What comes here is a guard, or was declined there.
  if (state.operations.id == BackendId::uffd_thread &&
      state.pages.get(fault.address) != PageState::guard)
    return false;
  // Memory's owner may have changed its rights by mprotect(2): such faults are his.
  if (!state.owns_memory && signal == SIGSEGV && state.operations.id == BackendId::uffd_inline) {
    const PageState known = state.pages.get(fault.address);
    if (known != PageState::guard && known != PageState::none) return false;
  }
  fault.kind = classify(state, fault.address, fault.write, present);
  const Verdict verdict = deliver(state, fault);
  if (verdict == Verdict::retry && fault.frozen) wait_for_thaw(state);
  // A handler may have changed the region's own key; what it did in this frame's stead must reach
  // the interrupted code.
  if (state.key >= 0) apply_key_access(state, fault.context);
  return verdict != Verdict::not_mine;
}

}  // namespace

[[gnu::hot]] bool dispatch_signal(int signal, int code, void* address, void* context) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const Pinned pinned = Pinned::find(address);
  RegionState* const state = pinned.get();
  if (state == nullptr) return false;
  sys::ThreadState& self = sys::this_thread();
  const sys::FrameFacts facts = sys::frame_facts(context);
  Fault fault;
  fault.address = static_cast<std::byte*>(address);
  fault.page = page_of(address);
  fault.write = facts.write;
  fault.thread = self.id != 0 ? self.id : current_thread();
  fault.context = context;
  fault.region = &state->handle;
  const RunningHere running(pinned, context);
  bool ours = false;
  const bool special = state->special || state->frozen.load(std::memory_order_acquire) != 0 ||
                       trace::switched_on(trace::Kind::fault);
  if (special) [[unlikely]] {
    ours = dispatch_special(*state, fault, signal, code, facts.translated);
  } else {
    fault.kind = kind_of(*state, fault.address, facts.write, facts.translated);
    const HandlerSlot slot = state->current_handler();
    const Answering answering(fault);
    ours = slot.handler != nullptr && slot.handler(slot.self, fault) != Verdict::not_mine;
  }
  return ours;
}

}  // namespace v0
}  // namespace pagetrap
