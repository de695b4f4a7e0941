// From a fault to its region's handler: shared by the signal handler and the handler threads.
#pragma once

#include <sys/types.h>

#include <pagetrap/vm/fault.hpp>

#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {

/// Give `fault` to the dirty tracker, the frozen gate or the handler of its pinned region.
Verdict deliver(RegionState& state, Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;

/// The kind of a fault on `address`, as the region's page states know it. `present`: the CPU found
/// a page there.
FaultKind classify(const RegionState& state, const std::byte* address, bool write,
                   bool present) noexcept PAGETRAP_SIGNAL_SAFE;

/// A synchronous SIGSEGV or SIGBUS at `address` in this thread. False: not ours.
bool dispatch_signal(int signal, int code, void* address, void* context) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// The calling thread's id, remembered (gettid(2) costs a system call).
pid_t current_thread() noexcept PAGETRAP_SIGNAL_SAFE;
/// After fork(): the remembered id is the parent's.
void forget_current_thread() noexcept;

}  // namespace v0
}  // namespace pagetrap
