// The flip: threads stand still, and what they have becomes from-space.
#pragma once

#include "gc/heap_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// Begins a cycle unless one is under way; `self` is the calling thread if it is attached, not
/// critical, else null. EBUSY: there is one. Other errors: the old space could not be closed, and
/// nothing has changed.
Outcome begin_cycle(HeapState& heap, Thread* self, bool full) noexcept;

/// Begins a cycle after this call, and returns when it is over.
Outcome collect(HeapState& heap, Thread* self, bool full);

/// Waits until no cycle is under way, and helps where there is no collector thread.
void wait_for_end(HeapState& heap, Thread* self);

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
