// Region::freeze and thaw.
#include <pagetrap/vm/freeze.hpp>

#include <sys/mman.h>

#include <algorithm>

#include <pagetrap/trace/trace.hpp>

#include "sys/protection_key.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/keys.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

PageState state_for(Access access) noexcept {
  return access == Access::none ? PageState::none : PageState::read;
}

// Without a key: protect every run that allows more than `leave`, and remember it for the thaw.
Outcome protect_open_runs(RegionState& state, Access leave) {
  for (std::byte* next = state.range.base; next < state.range.end();) {
    const PageRange run = state.pages.run(next, state.range.end());
    const PageState before = state.pages.get(next);
    const bool allows_more =
        before == PageState::read_write || (before == PageState::read && leave == Access::none);
    if (allows_more) {
      state.frozen_runs.push_back({run, before});
      if (const Outcome outcome = state.operations.protect(state, run, leave); failed(outcome))
        return outcome;
    }
    next = run.end();
  }
  return kDone;
}

Outcome reopen_runs(RegionState& state, Access left) noexcept {
  Outcome worst = kDone;
  for (const FrozenRun& frozen : state.frozen_runs) {
    for (std::byte* next = frozen.range.base; next < frozen.range.end();) {
      // Only what is still as the freeze left it: a handler may have opened pages meanwhile.
      const PageRange run = state.pages.run(next, frozen.range.end());
      if (state.pages.get(next) == state_for(left)) {
        const Outcome outcome = frozen.before == PageState::read_write
                                    ? state.operations.unprotect(state, run)
                                    : state.operations.protect(state, run, Access::read);
        if (failed(outcome)) worst = outcome;
      }
      next = run.end();
    }
  }
  state.frozen_runs.clear();
  return worst;
}

// Gives pages another key, run by run, since that call sets their rights too.
Outcome tag_runs(RegionState& state, PageRange part, int key) noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::byte* next = part.base; next < part.end();) {
    const PageRange run = state.pages.run(next, part.end());
    const PageState known = state.pages.get(next);
    next = run.end();
    int prot = PROT_READ | PROT_WRITE;
    if (known == PageState::read) prot = PROT_READ;
    if (known == PageState::none || known == PageState::guard || known == PageState::missing ||
        known == PageState::evicted)
      prot = PROT_NONE;
    if (const int error = sys::tag(run, prot, key)) return Error{"pkey_mprotect", error, run};
  }
  return kDone;
}

// All pages get the region's key again, a little at a time: each call stops page faults of others.
Outcome tag_all(RegionState& state) noexcept {
  constexpr std::size_t kStep = std::size_t{2} << 20;
  Outcome worst = kDone;
  for (std::size_t done = 0; done < state.range.size_bytes(); done += kStep) {
    const std::size_t length = std::min(kStep, state.range.size_bytes() - done);
    const Outcome outcome =
        tag_runs(state, {state.range.base + done, pages_for(length)}, state.key);
    if (failed(outcome)) worst = outcome;
  }
  return worst;
}

}  // namespace

bool protection_keys_available() { return sys::have_protection_keys(); }

Result<Done> Region::freeze(Access leave) {
  if (state_ == nullptr) return Error{"freeze", EBADF, {}, "the Region is empty"};
  RegionState& state = *state_;
  if (!state.options.freezable)
    return Error{"freeze", ENOTSUP, state.range, "create the region with options.freezable"};
  if (leave == Access::read_write)
    return Error{"freeze", EINVAL, state.range, "nothing to take away"};
  const std::lock_guard guard(state.control);
  if (state.frozen.load() != 0) return Error{"freeze", EALREADY, state.range, "thaw it first"};
  const std::uint64_t started = sys::monotonic_nanoseconds();
  state.frozen_leaving = leave;
  // Before any right is taken away, so that the first thread to fault knows why.
  state.frozen.store(1, std::memory_order_seq_cst);
  const Outcome outcome =
      state.key >= 0 ? restrict_key(state, leave) : protect_open_runs(state, leave);
  if (failed(outcome)) {
    static_cast<void>(thaw_locked());
    return outcome;
  }
  trace::record(trace::Kind::freeze, state.range.base, sys::monotonic_nanoseconds() - started);
  return Done{};
}

Result<Done> Region::thaw(PageRange part) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state_ == nullptr) return Error{"thaw", EBADF, part, "the Region is empty"};
  RegionState& state = *state_;
  if (!state.range.contains(part) || part.empty())
    return Error{"thaw", EINVAL, part, "not pages of the region"};
  if (state.key < 0 || state.operations.id == BackendId::pkey)
    return Error{"thaw of a part", ENOTSUP, part, "it takes a protection key of the freeze's own"};
  if (state.frozen.load(std::memory_order_acquire) == 0) return Done{};
  state.parts_thawed.store(true, std::memory_order_release);
  return as_result(tag_runs(state, part, 0));
}

Result<Done> Region::thaw() noexcept {
  if (state_ == nullptr) return Error{"thaw", EBADF, {}, "the Region is empty"};
  const std::lock_guard guard(state_->control);
  if (state_->frozen.load() == 0) return Done{};
  return as_result(thaw_locked());
}

Error Region::thaw_locked() noexcept {
  RegionState& state = *state_;
  Outcome outcome = state.key >= 0 ? open_key(state) : reopen_runs(state, state.frozen_leaving);
  if (state.parts_thawed.exchange(false) && !failed(outcome)) outcome = tag_all(state);
  state.thaws.fetch_add(1, std::memory_order_seq_cst);  // before: see raised_before_thaw()
  state.frozen.store(0, std::memory_order_seq_cst);
  sys::futex_wake_all(state.frozen);
  // Threads that sleep in the kernel on a page that a handler opened and others closed meanwhile.
  if (state.uffd >= 0) sys::uffd_wake(state.uffd, state.range);
  trace::record(trace::Kind::thaw, state.range.base, 0);
  return outcome;
}

bool Region::frozen() const noexcept PAGETRAP_SIGNAL_SAFE {
  return state_ != nullptr && state_->frozen.load(std::memory_order_acquire) != 0;
}

}  // namespace v0
}  // namespace pagetrap
