// Protection keys: rights of a whole region, changed by writing a register. The pages are never
// touched, no TLB is flushed. Per-page rights do not exist here. See keys.hpp and freeze.cpp.
#include <sys/mman.h>

#include "sys/signal_safe_calls.hpp"
#include "vm/backends/operations.hpp"
#include "vm/keys.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

Outcome attach(RegionState& state) { return state.key >= 0 ? kDone : attach_key(state); }
void detach(RegionState&) noexcept {}

// In the child only the forking thread lives, with its own register; key and tags are inherited.
Outcome rearm(RegionState&) noexcept { return kDone; }

Outcome need_whole(const RegionState& state, PageRange range, const char* operation) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (range == state.range) return kDone;
  return Error{operation, ENOTSUP, range,
               "a protection key covers the whole region: pass region.range(), or use a backend "
               "with per_page"};
}

Outcome protect(RegionState& state, PageRange range, Access access) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = need_whole(state, range, "protect"); failed(outcome)) return outcome;
  return restrict_key(state, access);
}

Outcome unprotect(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  // Any page of it opens the region: there is nothing smaller, and the handler that resolves a
  // fault by fault.page must work on every backend.
  static_cast<void>(range);
  return open_key(state);
}

Outcome supply(RegionState& state, PageRange range, const std::byte*, Supply, Access,
               std::size_t&) noexcept PAGETRAP_SIGNAL_SAFE {
  static_cast<void>(state);
  return Error{"supply", ENOTSUP, range, "the pkey backend has no missing pages"};
}

Outcome discard(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  return drop_contents(state, range);
}

// Memory objects keep their contents, and nothing traps.
Outcome evict(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state.options.backing == Backing::anonymous) return discard(state, range);
  const int error = sys::advise(range, MADV_DONTNEED);
  return error == 0 ? kDone : Error{"MADV_DONTNEED", error, range};
}

}  // namespace

const BackendOperations kPkeyOperations = {BackendId::pkey, attach, detach, rearm,  protect,
                                           unprotect,       supply, evict,  discard};

}  // namespace v0
}  // namespace pagetrap
