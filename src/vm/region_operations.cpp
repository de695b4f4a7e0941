// The primitives: checks, bookkeeping of dirty tracking, and the call to the backend.
#include <pagetrap/vm/region.hpp>

#include <algorithm>
#include <atomic>

#include "sys/signal_safe_calls.hpp"
#include "trace/switched_on.hpp"
#include "vm/dirty_tracker.hpp"
#include "vm/dispatch.hpp"
#include "vm/region_state.hpp"
#include "vm/running.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

// What every operation checks first.
Outcome check(const RegionState* state, PageRange range, const char* operation) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (state == nullptr) return Error{operation, EBADF, range, "the Region is empty"};
  if (state->absent_in_child)
    return Error{operation, EBADF, range, "the region is absent in this fork()ed child"};
  if (range.empty() || !state->range.contains(range) || page_of(range.base).base != range.base)
    return Error{operation, EINVAL, range, "not whole pages of the region"};
  return kDone;
}

void trace_pages(trace::Kind kind, PageRange range, unsigned low) noexcept PAGETRAP_SIGNAL_SAFE {
  trace::note(kind, range.base, range.length.count() << 8 | low);
}

}  // namespace

PageRange Region::range() const noexcept PAGETRAP_SIGNAL_SAFE {
  return state_ != nullptr && !state_->absent_in_child ? state_->range : PageRange{};
}
BackendId Region::backend() const noexcept PAGETRAP_SIGNAL_SAFE {
  return state_ != nullptr ? state_->operations.id : BackendId::null;
}
Capabilities Region::can() const noexcept {
  return state_ != nullptr ? capabilities(state_->operations.id, state_->options.backing)
                           : Capabilities{};
}
DirtyForm Region::dirty_form() const noexcept PAGETRAP_SIGNAL_SAFE {
  return state_ != nullptr ? state_->dirty_form : DirtyForm::none;
}

Result<Done> Region::on_fault(Handler handler, void* self) noexcept {
  if (state_ == nullptr) return Error{"on_fault", EBADF, {}, "the Region is empty"};
  if (inside_handler())
    return Error{"on_fault", EDEADLK, state_->range, "not from inside a fault handler"};
  const std::lock_guard guard(state_->control);
  // The spare slot may be in use by faults that began before the last change.
  wait_for_handlers(*state_);
  const unsigned spare = 1 - state_->slot.load(std::memory_order_relaxed);
  state_->slots[spare] = {handler, self};
  state_->slot.store(spare, std::memory_order_release);
  state_->has_handler.store(handler != nullptr, std::memory_order_release);
  return Done{};
}

void Region::quiesce() noexcept {
  if (state_ == nullptr) return;
  const std::lock_guard guard(state_->control);
  wait_for_handlers(*state_);
}

[[gnu::hot]] Result<Done> Region::protect(PageRange range, Access access) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (access == Access::read_write) return unprotect(range);
  if (const Outcome outcome = check(state_, range, "protect"); failed(outcome)) return outcome;
  trace_pages(trace::Kind::protect, range, static_cast<unsigned>(access));
  return as_result(state_->operations.protect(*state_, range, access));
}

Result<Done> Region::protect(std::span<const PageRange> ranges, Access access) noexcept
    PAGETRAP_SIGNAL_SAFE {
  for (const PageRange& range : ranges) {
    if (auto done = protect(range, access); !done) return done;
  }
  return Done{};
}

[[gnu::hot]] Result<Done> Region::unprotect(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = check(state_, range, "unprotect"); failed(outcome)) return outcome;
  trace::note(trace::Kind::unprotect, range.base, range.length.count());
  const Opening opening(state_->tracker, range);
  return as_result(state_->operations.unprotect(*state_, range));
}

[[gnu::hot]] Result<Pages> Region::supply(PageRange range, const void* from, Supply how,
                                          Access access) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = check(state_, range, "supply"); failed(outcome)) return outcome;
  const bool needs_buffer = how == Supply::copy || how == Supply::move;
  if (needs_buffer && from == nullptr)
    return Error{"supply", EINVAL, range, "copy and move need a buffer"};
  if (how == Supply::move && page_of(from).base != from)
    return Error{"supply", EINVAL, range, "the buffer of a move must be page-aligned"};
  if (how == Supply::publish && state_->options.backing == Backing::anonymous)
    return Error{"supply", ENOTSUP, range, "private memory has no second view to publish from"};
  if (access == Access::none) return Error{"supply", EINVAL, range, "access must allow reading"};
  trace_pages(trace::Kind::supply, range, static_cast<unsigned>(how));
  std::size_t filled = 0;
  Outcome outcome;
  {
    // What comes read-only from userfaultfd carries the mark that the kernel takes away at the
    // first write: nothing of it is written yet.
    const bool armed = access == Access::read && is_userfaultfd(state_->operations.id) &&
                       state_->options.dirty != DirtyForm::traps;
    const Opening opening(armed ? nullptr : state_->tracker, range);
    outcome = state_->operations.supply(*state_, range, static_cast<const std::byte*>(from), how,
                                        access, filled);
  }
  if (failed(outcome)) return outcome;
  return pages_for(filled);
}

Result<Done> Region::wake(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state_ == nullptr) return Error{"wake", EBADF, range, "the Region is empty"};
  if (!state_->range.contains(range) || range.empty())
    return Error{"wake", EINVAL, range, "not pages of the region"};
  if (state_->operations.id != BackendId::uffd_thread)
    return Done{};  // nobody sleeps in the kernel
  if (const int error = sys::uffd_wake(state_->uffd, range))
    return Error{"UFFDIO_WAKE", error, range};
  return Done{};
}

Result<Done> Region::evict(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = check(state_, range, "evict"); failed(outcome)) return outcome;
  trace_pages(trace::Kind::evict, range, 0);
  const Opening opening(state_->tracker,
                        range);  // it may be writable again, and holds something else
  return as_result(state_->operations.evict(*state_, range));
}

Result<Done> Region::discard(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = check(state_, range, "discard"); failed(outcome)) return outcome;
  trace_pages(trace::Kind::evict, range, 1);
  const Opening opening(state_->tracker, range);
  return as_result(state_->operations.discard(*state_, range));
}

Result<Done> Region::discard(std::span<const PageRange> ranges) noexcept PAGETRAP_SIGNAL_SAFE {
  for (const PageRange& range : ranges)
    if (const Outcome outcome = check(state_, range, "discard"); failed(outcome)) return outcome;
  if (ranges.empty()) return Done{};
  if (state_->operations.discard_all == nullptr || state_->tracker != nullptr) {
    for (const PageRange& range : ranges)
      if (auto done = discard(range); !done) return done;
    return Done{};
  }
  trace_pages(trace::Kind::evict, ranges.front(), 1);
  return as_result(state_->operations.discard_all(*state_, ranges));
}

Result<Pages> Region::move_out(PageRange pages, Region& to, PageRange place) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = check(state_, pages, "move_out"); failed(outcome)) return outcome;
  if (const Outcome outcome = check(to.state_, place, "move_out"); failed(outcome)) return outcome;
  if (pages.length != place.length || to.state_ == state_)
    return Error{"move_out", EINVAL, place, "another region, and as many pages"};
  if (state_->operations.move_out == nullptr || state_->tracker != nullptr)
    return Error{"move_out", ENOTSUP, pages, "needs userfaultfd, and no tracking of DIRTY"};
  trace_pages(trace::Kind::evict, pages, 4);
  std::size_t moved = 0;
  const Outcome outcome = state_->operations.move_out(*state_, pages, *to.state_, place, moved);
  if (moved == 0) return outcome;
  return pages_for(moved);
}

Result<Done> Region::guard(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = check(state_, range, "guard"); failed(outcome)) return outcome;
  trace_pages(trace::Kind::evict, range, 2);
  return as_result(install_guard(*state_, range));
}

Result<Done> Region::unguard(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = check(state_, range, "unguard"); failed(outcome)) return outcome;
  trace_pages(trace::Kind::evict, range, 3);
  const Opening opening(state_->tracker, range);
  return as_result(remove_guard(*state_, range));
}

Result<Pages> Region::dirty(PageRange range, std::vector<PageRange>& out) {
  if (const Outcome outcome = check(state_, range, "dirty"); failed(outcome)) return outcome;
  if (state_->tracker == nullptr)
    return Error{"dirty", ENOTSUP, range, "create the region with options.dirty"};
  const std::lock_guard guard(state_->tracker->lock);
  auto found = state_->tracker->collect(*state_, range, out);
  if (found) trace::note(trace::Kind::dirty, range.base, found->count());
  return found;
}

Result<Region::FoundDirty> Region::find_dirty(PageRange range, std::vector<PageRange>& out) {
  if (const Outcome outcome = check(state_, range, "find_dirty"); failed(outcome)) return outcome;
  if (state_->tracker == nullptr)
    return Error{"find_dirty", ENOTSUP, range, "create the region with options.dirty"};
  const std::lock_guard guard(state_->tracker->lock);
  bool armed = true;
  const auto found = state_->tracker->find(*state_, range, out, armed);
  if (!found) return found.error();
  trace::note(trace::Kind::dirty, range.base, found->count());
  return FoundDirty{*found, armed};
}

Result<Done> Region::arm_dirty(PageRange range) {
  if (const Outcome outcome = check(state_, range, "arm_dirty"); failed(outcome)) return outcome;
  if (state_->tracker == nullptr)
    return Error{"arm_dirty", ENOTSUP, range, "create the region with options.dirty"};
  const std::lock_guard guard(state_->tracker->lock);
  return as_result(state_->tracker->arm(*state_, range));
}

PageState Region::page_state(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
  if (state_ == nullptr || state_->absent_in_child || !state_->range.contains(address))
    return PageState::none;
  return state_->pages.get(address);
}

}  // namespace v0
}  // namespace pagetrap
