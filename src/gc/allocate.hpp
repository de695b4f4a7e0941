// Allocation off the fast path.
#pragma once

#include "gc/heap_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// Whether the next cycle should be a full one.
bool is_full_due(const HeapState& heap) noexcept;

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
