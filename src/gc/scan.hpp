// Copying objects out of from-space, and scanning pages for references into it. All of it may run
// in a trap, in any number of threads at once, on the same page.
#pragma once

#include <cstdint>

#include "gc/heap_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// Where the object at `address` is after this cycle's flip; copies it there if nobody has. For a
/// large object: marks it. `address` may be anything.
std::uintptr_t forward(HeapState& heap, Worker& worker, std::uintptr_t address) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// The same without copying: 0 if it is dead. After the last scan.
std::uintptr_t forwarded(const HeapState& heap, std::uintptr_t address) noexcept;

/// A large object is alive: its pages are to be scanned. False: it was known.
bool mark_large(HeapState& heap, PageIndex first) noexcept PAGETRAP_SIGNAL_SAFE;

/// The first page of the large object that has `page`; `page` itself if it is none.
PageIndex first_page_of(const HeapState& heap, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE;

/// Whether this cycle's flip has closed the page, or it was made since.
bool was_closed(const HeapState& heap, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE;

/// Scans all of an old page, or of one page of a large object, unless this cycle has. Nothing more
/// is copied into it from then on. It may be opened.
void scan_page(HeapState& heap, Worker& worker, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE;

/// Scans those objects of a page that are marked and have not been. It stays closed: more of them
/// may be marked later.
void scan_marked(HeapState& heap, Worker& worker, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE;

/// In a full cycle: all objects of the page are alive, since somebody may look at any of them.
void keep_whole(HeapState& heap, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE;

/// The next flip queues the page, written or not.
void remember(HeapState& heap, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE;

/// Scans a pinned page of the nursery.
void scan_young_page(HeapState& heap, Worker& worker, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE;

/// Scans what the worker has copied into its buffer, until that is all, or the buffer is full and
/// in the queue. False: there was nothing.
bool scan_own_buffer(HeapState& heap, Worker& worker) noexcept PAGETRAP_SIGNAL_SAFE;

/// Lets go of the worker's buffers: what is in them is queued.
void retire_buffers(HeapState& heap, Worker& worker) noexcept PAGETRAP_SIGNAL_SAFE;

/// The worker's buffer, if somebody has yet to scan it; kNoPage.
PageIndex open_buffer_of(const HeapState& heap, const Worker& worker) noexcept;

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
