// fork(): what a child finds of a heap.
#pragma once

#include "gc/heap_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// The handlers of pthread_atfork(3), once; after the ground floor's own, which must run inside
/// ours.
Outcome handle_forks();

/// Heaps that forks are told of.
void add_to_fork_list(HeapState& heap);
void remove_from_fork_list(HeapState& heap) noexcept;

/// Throws SystemError if the heap is of no use in this process: see Heap, "fork()".
void check_usable(const HeapState& heap);

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
