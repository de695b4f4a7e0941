// Guards: pages that nobody may touch, whatever backend the region has.
#include <sys/mman.h>

#include <atomic>

#include <pagetrap/trace/trace.hpp>
#include <pagetrap/vm/features.hpp>

#include "sys/kernel_abi.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

// Runs of PROT_NONE that stand in for guard markers. Each may cost two kernel mappings.
constinit std::atomic<std::size_t> g_fallback_guards{0};

Outcome install_by_mprotect(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t guards = g_fallback_guards.fetch_add(1) + 1;
  if (2 * guards > max_map_count() / 2) {
    g_fallback_guards.fetch_sub(1);
    return Error{
        "guard", ENOMEM, range,
        "guards use half of vm.max_map_count already: raise the sysctl, or use Linux 6.13, "
        "whose guard markers need no mappings"};
  }
  if (const int error = sys::change_protection(range, PROT_NONE)) {
    g_fallback_guards.fetch_sub(1);
    return Error{"mprotect of a guard", error, range};
  }
  state.fallback_guards.fetch_add(1, std::memory_order_relaxed);
  return drop_contents(state, range);
}

Outcome remove_by_mprotect(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const int error = sys::change_protection(range, PROT_READ | PROT_WRITE))
    return Error{"mprotect of a guard", error, range};
  if (state.fallback_guards.load(std::memory_order_relaxed) != 0) {
    state.fallback_guards.fetch_sub(1, std::memory_order_relaxed);
    g_fallback_guards.fetch_sub(1);
  }
  return kDone;
}

// The marker is tried first, each time: one failing system call on old kernels, no state to keep.
Outcome install(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state.options.backend == BackendId::null) return drop_contents(state, range);
  const int error = sys::advise(range, MADV_GUARD_INSTALL);
  // The marker drops private memory; a memory object's page is only unmapped by it.
  if (error == 0) return state.memory_file >= 0 ? drop_contents(state, range) : kDone;
  if (error != EINVAL) return Error{"MADV_GUARD_INSTALL", error, range};
  return install_by_mprotect(state, range);
}

}  // namespace

Outcome install_guard(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  const PageState before = state.pages.get(range.base);
  state.pages.set(range, PageState::guard);
  const Outcome outcome = install(state, range);
  if (failed(outcome)) state.pages.set(range, before);
  return outcome;
}

Outcome remove_guard(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  Outcome outcome = kDone;
  if (state.options.backend != BackendId::null) {
    const int error = sys::advise(range, MADV_GUARD_REMOVE);
    if (error == EINVAL) {
      outcome = remove_by_mprotect(state, range);
    } else if (error != 0) {
      outcome = Error{"MADV_GUARD_REMOVE", error, range};
    }
  }
  if (failed(outcome)) return outcome;
  state.pages.set(range, state.empty_state());
  // Where missing pages trap, "zeroes again" has to be supplied.
  return state.wants(FaultKind::missing) ? state.operations.unprotect(state, range) : kDone;
}

void remove_guards(RegionState& state) noexcept {
  if (!state.pages.valid()) return;  // creation failed before there was a table
  for (std::byte* next = state.pages.first_changed(state.range.base, state.range.end());
       next < state.range.end();) {
    const PageRange run = state.pages.run(next, state.range.end());
    if (state.pages.get(next) == PageState::guard) static_cast<void>(remove_guard(state, run));
    next = state.pages.first_changed(run.end(), state.range.end());
  }
}

void forget_guards(RegionState& state) noexcept {
  g_fallback_guards.fetch_sub(state.fallback_guards.exchange(0));
}

}  // namespace v0
}  // namespace pagetrap
