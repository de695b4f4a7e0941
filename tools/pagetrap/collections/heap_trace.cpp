#include "heap_trace.hpp"

#include <algorithm>
#include <optional>
#include <set>

namespace pagetrap::tool {
namespace {

using trace::Event;
using trace::Kind;
using What = PageEvent::What;

constexpr std::uint64_t kPageBytes = 4096;  // of every collected heap

constexpr std::uint64_t low_bits(std::uint64_t word, unsigned bits) {
  return word & ((std::uint64_t{1} << bits) - 1);
}

/// The span of so many ns that an event, which is written at its end, tells of.
Span before(const Event& event, std::uint64_t length) {
  return {event.nanoseconds - std::min(length, event.nanoseconds), event.nanoseconds};
}

What opened_how(std::uint64_t low) {
  constexpr What kHow[] = {What::opened, What::trapped, What::pinned, What::clean};
  return low < std::size(kHow) ? kHow[low] : What::opened;
}

/// What a page event says, its address still where the page is. Nothing: it is another event.
std::optional<PageEvent> page_event(const Event& event) {
  PageEvent told{event.nanoseconds, event.address, event.detail >> 8, event.thread, What::closed};
  const std::uint64_t low = low_bits(event.detail, 8);
  switch (event.kind) {
    case Kind::close:
      told.what = low == 0 ? What::closed : What::made;
      return told;
    case Kind::open:
      told.what = opened_how(low);
      return told;
    case Kind::scan:
      told.what = What::scan;
      told.count = 1;
      return told;
    case Kind::pin:
      told.what = event.detail == 0 ? What::pinned : What::visited;
      told.count = 1;
      return told;
    default:
      return std::nullopt;
  }
}

class Reader {
 public:
  explicit Reader(std::span<const Event> events) {
    for (const Event& event : events) {
      if (event.kind == Kind::flip) find_heap(event);
      if (event.kind == Kind::pause || event.kind == Kind::cycle || event.kind == Kind::stall)
        find_or_add(event.address);
      watch(event.nanoseconds);
    }
    for (const Event& event : events) read(event);
  }
  [[nodiscard]] CollectionsTrace result() { return std::move(trace_); }

 private:
  void watch(std::uint64_t time) {
    Span& watched = trace_.watched;
    watched.begin = watched.end == 0 ? time : std::min(watched.begin, time);
    watched.end = std::max(watched.end, time);
  }

  HeapTrace& find_or_add(std::uint64_t base) {
    for (HeapTrace& heap : trace_.heaps)
      if (heap.base == base) return heap;
    trace_.heaps.push_back({});
    trace_.heaps.back().base = base;
    return trace_.heaps.back();
  }
  void find_heap(const Event& flip) {
    HeapTrace& heap = find_or_add(flip.address);
    heap.pages = std::max(heap.pages, low_bits(flip.detail, 32));
  }
  /// The heap whose pages `address` is one of. The nursery comes after those that may be closed: it
  /// is of the heap that begins last before it.
  HeapTrace* heap_of(std::uint64_t address, bool closable) {
    HeapTrace* found = nullptr;
    for (HeapTrace& heap : trace_.heaps) {
      if (address < heap.base || (found != nullptr && heap.base < found->base)) continue;
      if (closable && (address - heap.base) / kPageBytes >= heap.pages) continue;
      found = &heap;
    }
    return found;
  }

  void read(const Event& event) {
    switch (event.kind) {
      case Kind::flip:
        return read_flip(event);
      case Kind::pause:
        return read_pause(event);
      case Kind::cycle:
        return read_end(event);
      case Kind::stall:
        return find_or_add(event.address)
            .waits.push_back({before(event, event.detail), event.thread});
      case Kind::fault:
        if (HeapTrace* const heap = heap_of(event.address, true))
          heap->traps.push_back({before(event, event.detail >> 16), event.thread});
        return;
      default:
        if (auto told = page_event(event)) read_page(*told);
    }
  }
  void read_flip(const Event& event) {
    CollectionCycle cycle;
    cycle.number = static_cast<std::uint32_t>(low_bits(event.detail >> 32, 30));
    cycle.full = low_bits(event.detail >> 62, 1) != 0;
    cycle.lifted = event.detail >> 63 != 0;
    cycle.flipped_at = event.nanoseconds;
    find_or_add(event.address).cycles.push_back(std::move(cycle));
  }
  void read_pause(const Event& event) {
    HeapTrace& heap = find_or_add(event.address);
    const std::uint64_t stop = low_bits(event.detail, 32);
    const std::uint64_t pause = event.detail >> 32;
    heap.flips.push_back(before(event, stop + pause));
    // A flip that failed has a pause and no cycle.
    if (heap.cycles.empty() || heap.cycles.back().resumed_at != 0) return;
    CollectionCycle& cycle = heap.cycles.back();
    cycle.stop_ns = stop;
    cycle.pause_ns = pause;
    cycle.resumed_at = event.nanoseconds;
  }
  void read_end(const Event& event) {
    HeapTrace& heap = find_or_add(event.address);
    if (heap.cycles.empty() || heap.cycles.back().ended_at != 0) return;
    CollectionCycle& cycle = heap.cycles.back();
    cycle.ended_at = event.nanoseconds;
    cycle.traps = low_bits(event.detail, 20);
    cycle.copied_pages = low_bits(event.detail >> 20, 22);
    cycle.scanned_pages = event.detail >> 42;
  }
  void read_page(PageEvent told) {
    HeapTrace* const heap = heap_of(told.first, told.what != What::visited);
    if (heap == nullptr || heap->cycles.empty()) return;
    told.first = (told.first - heap->base) / kPageBytes;
    if (told.what != What::visited) {
      told.count = std::min(told.count, heap->pages - told.first);
    }
    heap->cycles.back().events.push_back(told);
  }

  CollectionsTrace trace_;
};

}  // namespace

const char* name(PageEvent::What what) noexcept {
  switch (what) {
    case What::closed:
      return "closed";
    case What::made:
      return "made";
    case What::scan:
      return "scan";
    case What::opened:
      return "opened";
    case What::trapped:
      return "trapped";
    case What::clean:
      return "clean";
    case What::pinned:
      return "pinned";
    case What::visited:
      break;
  }
  return "visited";
}

std::uint64_t CollectionCycle::count(What what) const noexcept {
  std::uint64_t pages = 0;
  for (const PageEvent& event : events)
    if (event.what == what) pages += event.count;
  return pages;
}

bool CollectionCycle::has_pages() const noexcept {
  return std::any_of(events.begin(), events.end(), [](const PageEvent& event) {
    return event.what == What::closed || event.what == What::made || event.what == What::scan;
  });
}

std::uint64_t CollectionCycle::total_ns() const noexcept {
  const std::uint64_t stopped = resumed_at - std::min(pause_ns, resumed_at);
  return ended_at - std::min({ended_at, flipped_at, resumed_at != 0 ? stopped : flipped_at});
}

std::uint64_t CollectionCycle::last_time() const noexcept {
  if (ended_at != 0) return ended_at;
  std::uint64_t last = std::max(flipped_at, resumed_at);
  for (const PageEvent& event : events) last = std::max(last, event.nanoseconds);
  return last;
}

CollectionsTrace collections_in(std::span<const Event> events) { return Reader(events).result(); }

std::vector<std::uint32_t> threads_of(const HeapTrace& heap) {
  std::set<std::uint32_t> threads;
  for (const Stall& stall : heap.traps) threads.insert(stall.thread);
  for (const Stall& stall : heap.waits) threads.insert(stall.thread);
  return {threads.begin(), threads.end()};
}

Pauses pauses_of(const HeapTrace& heap, Span watched, std::optional<std::uint32_t> thread) {
  std::vector<Span> spans = heap.flips;
  for (const auto* const stalls : {&heap.traps, &heap.waits})
    for (const Stall& stall : *stalls)
      if (thread == stall.thread) spans.push_back(stall.when);
  return {std::move(spans), watched};
}

}  // namespace pagetrap::tool
