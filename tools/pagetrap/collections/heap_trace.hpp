// What a trace tells of each collected heap: its cycles, and when threads stood still for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <pagetrap/trace/trace.hpp>

#include "utilisation.hpp"

namespace pagetrap::tool {

/// Something that happened to pages, numbered from the heap's base.
struct PageEvent {
  enum class What : std::uint8_t {
    closed,   // by the flip
    made,     // closed since it is new: survivors are copied there
    scan,     // begins to be scanned
    opened,   // when it had been scanned
    trapped,  // opened by the trap of a thread that touched it
    clean,    // opened as it was: nothing in it to scan
    pinned,   // a stack refers to it: open again before threads go on
    visited,  // pinned, and never closed: of the nursery
  };
  std::uint64_t nanoseconds = 0;  // of the trace's clock
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  std::uint32_t thread = 0;
  What what = What::closed;
};
const char* name(PageEvent::What what) noexcept;

/// From a flip to the next one. Times are of the trace's clock.
struct CollectionCycle {
  std::uint32_t number = 0;
  bool full = false;
  bool lifted = false;           // all of the old space was closed, and not only some pages
  std::uint64_t flipped_at = 0;  // all threads had stopped, and pages have been closed
  std::uint64_t stop_ns = 0;     // until then
  std::uint64_t pause_ns = 0;    // from then until they went on; 0 with stop_ns 0: not traced
  std::uint64_t resumed_at = 0;  // 0: not traced
  std::uint64_t ended_at = 0;    // 0: not traced, or not over
  std::uint64_t traps = 0;       // these three are of its end
  std::uint64_t copied_pages = 0;
  std::uint64_t scanned_pages = 0;
  std::vector<PageEvent> events;  // in order

  [[nodiscard]] std::uint64_t count(PageEvent::What what) const noexcept;
  /// Whether frames of it can be drawn.
  [[nodiscard]] bool has_pages() const noexcept;
  /// From when all threads had stopped to its end. Precondition: it has ended.
  [[nodiscard]] std::uint64_t total_ns() const noexcept;
  /// Its end, or the last thing that is known of it.
  [[nodiscard]] std::uint64_t last_time() const noexcept;
};

/// A thread that stood still because of a cycle, by itself.
struct Stall {
  Span when;
  std::uint32_t thread = 0;
};

struct HeapTrace {
  std::uint64_t base = 0;
  std::uint64_t pages = 0;  // that may be closed, from the base on; further ones never are
  std::vector<CollectionCycle> cycles;
  std::vector<Span> flips;   // all threads stood still, from the order to stop on
  std::vector<Stall> traps;  // faults at closed pages
  std::vector<Stall> waits;  // for memory
};

struct CollectionsTrace {
  Span watched;  // from the first event that is there to the last
  std::vector<HeapTrace> heaps;
};

/// `events` in the order of their numbers.
CollectionsTrace collections_in(std::span<const trace::Event> events);

/// Which threads had stalls.
std::vector<std::uint32_t> threads_of(const HeapTrace& heap);
/// When `thread` stood still: in all flips, and in its own traps and waits. No thread: flips alone.
Pauses pauses_of(const HeapTrace& heap, Span watched, std::optional<std::uint32_t> thread);

}  // namespace pagetrap::tool
