// Which cycle is shown page by page.
#pragma once

#include <cstdint>
#include <utility>

#include "heap_trace.hpp"

namespace pagetrap::tool {

/// Both null: there is none.
struct ChosenCycle {
  const HeapTrace* heap = nullptr;
  const CollectionCycle* cycle = nullptr;
};

/// Whether events of pages were traced. A single cycle may have none: it closed nothing.
inline bool has_pages(const CollectionsTrace& trace) {
  for (const HeapTrace& heap : trace.heaps)
    for (const CollectionCycle& cycle : heap.cycles)
      if (cycle.has_pages()) return true;
  return false;
}

/// The last one of that number.
inline ChosenCycle cycle_numbered(const CollectionsTrace& trace, std::uint32_t number) {
  ChosenCycle chosen;
  for (const HeapTrace& heap : trace.heaps)
    for (const CollectionCycle& cycle : heap.cycles)
      if (cycle.number == number) chosen = {&heap, &cycle};
  return chosen;
}

/// Of those that have ended the one whose traps have opened most pages, or else the one with most
/// events.
inline ChosenCycle busiest_cycle(const CollectionsTrace& trace) {
  ChosenCycle chosen;
  for (const HeapTrace& heap : trace.heaps)
    for (const CollectionCycle& cycle : heap.cycles) {
      if (cycle.ended_at == 0 || !cycle.has_pages()) continue;
      const auto rank = [](const CollectionCycle& one) {
        return std::pair(one.count(PageEvent::What::trapped), one.events.size());
      };
      if (chosen.cycle == nullptr || rank(cycle) > rank(*chosen.cycle)) chosen = {&heap, &cycle};
    }
  return chosen;
}

}  // namespace pagetrap::tool
