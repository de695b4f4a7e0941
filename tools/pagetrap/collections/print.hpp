// How people see a heap's trace.
#pragma once

#include <cstddef>

#include "heap_trace.hpp"
#include "summary.hpp"

namespace pagetrap::tool {

/// The last cycles, a line each.
void print_cycles(const HeapTrace& heap, Span watched);
/// Percentiles, and a histogram below.
void print_pauses(const Summary& summary);
void print_utilisation(const Summary& summary);
/// One cycle: `frames` maps of its pages, one below the other.
void print_replay(const CollectionCycle& cycle, std::size_t frames);

}  // namespace pagetrap::tool
