// No protection at all: the page states alone say what an access may do, and Region::touch() looks
// them up and calls the handler as a fault would. Every algorithm above runs on it under sanitizers
// and on kernels that allow nothing. SOURCE the idea of the MPS's protan.c.
#include <cstring>

#include "sys/signal_safe_calls.hpp"
#include "vm/backends/operations.hpp"
#include "vm/region_state.hpp"
#include "vm/running.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

Outcome attach(RegionState&) { return kDone; }
void detach(RegionState&) noexcept {}
Outcome rearm(RegionState& state) noexcept {
  const PageState empty = state.wants(FaultKind::missing) ? PageState::missing : PageState::evicted;
  std::byte* const end = state.range.end();
  for (std::byte* page = state.pages.first_claimed(state.range.base, end); page < end;
       page = state.pages.first_claimed(page + page_size(), end))
    state.pages.set_one(page, empty);
  return kDone;
}

Outcome protect(RegionState& state, PageRange range, Access access) noexcept PAGETRAP_SIGNAL_SAFE {
  const PageState after = access == Access::none ? PageState::none : PageState::read;
  for (std::byte* page = range.base; page < range.end(); page += page_size()) {
    const PageState from = state.pages.get(page);
    if (from != PageState::missing && from != PageState::evicted) state.pages.set_one(page, after);
  }
  return kDone;
}

Outcome supply(RegionState& state, PageRange range, const std::byte* from, Supply how,
               Access access, std::size_t& filled) noexcept PAGETRAP_SIGNAL_SAFE {
  filled = 0;
  for (std::byte* page = range.base; page < range.end(); page += page_size()) {
    const PageState before = state.pages.get(page);
    const bool empty = is_empty(before) || (how == Supply::publish && before == PageState::none);
    if (!empty || !state.pages.claim(page, before)) {
      while (state.pages.claimed(page)) sys::yield();
      continue;
    }
    if (how == Supply::copy || how == Supply::move) {
      std::memcpy(page, from + (page - range.base), page_size());
    } else if (how == Supply::zero) {
      std::memset(page, 0, page_size());
    }
    state.pages.set_one(page, filled_state(access));
    filled += page_size();
  }
  return kDone;
}

Outcome unprotect(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::byte* next = range.base; next < range.end();) {
    const PageRange run = state.pages.run(next, range.end());
    std::size_t filled = 0;
    if (state.pages.get(next) == PageState::missing) {
      if (!was_emptied_meanwhile(run))
        static_cast<void>(supply(state, run, nullptr, Supply::zero, Access::read_write, filled));
    } else {
      state.pages.set(run, PageState::read_write);
    }
    next = run.end();
  }
  return kDone;
}

Outcome discard(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  state.pages.set(range, state.empty_state());
  return drop_contents(state, range);
}

Outcome evict(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state.options.backing == Backing::anonymous) return discard(state, range);
  if (!state.wants(FaultKind::minor)) return kDone;  // the contents stay, nothing traps
  state.pages.set(range, PageState::evicted);
  return kDone;
}

}  // namespace

const BackendOperations kNullOperations = {BackendId::null, attach, detach, rearm,  protect,
                                           unprotect,       supply, evict,  discard};

}  // namespace v0
}  // namespace pagetrap
