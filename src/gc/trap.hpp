// The trap: a thread touched a closed page of the old space.
#pragma once

#include <pagetrap/vm/fault.hpp>

#include "gc/heap_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// Appel, Ellis & Li's read barrier. `heap` is a HeapState.
Verdict on_trap(void* heap, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
