// The collector's work beside the program, in small steps.
#pragma once

#include "gc/heap_state.hpp"
#include "gc/traced.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// Does a little of the cycle that is under way; false: there is none. Has collector_lock.
bool step(HeapState& heap) noexcept;

/// Steps by the calling thread, which may be attached; yields if another one is at it.
void help(HeapState& heap, Thread* self) noexcept;

/// Scans up to `pages` of what is queued: the part of a thread that allocates faster than the
/// collector scans. Not critical before. False: there is nothing to scan.
bool help_scanning(HeapState& heap, Thread& self, unsigned pages) noexcept;

/// Everything up to the last scan, while all threads stand still: no malloc. Has collector_lock.
void scan_all_in_pause(HeapState& heap) noexcept;

/// Starts the collector's threads. Error: none is running.
Outcome start_collectors(HeapState& heap);
/// Ends them. No cycle is under way.
void end_collectors(HeapState& heap) noexcept;

/// Opens scanned pages, armed.
void open_run(HeapState& heap, PageIndex first, PageIndex count, Opened how) noexcept;

/// Opens what could not be opened for want of memory, and no trap has opened. After the last scan.
void open_refused(HeapState& heap) noexcept;

/// Frees what is from-space; of sweep.cpp.
void sweep(HeapState& heap) noexcept;

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
