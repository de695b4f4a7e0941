// The figures of a heap's trace, as the command prints them, and the tour.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "distribution.hpp"
#include "heap_trace.hpp"

namespace pagetrap::tool {

struct UtilisationRow {
  std::uint64_t window_ns = 0;
  // Nothing: the trace is shorter than the window.
  std::optional<double> flips;  // were there flips alone
  std::optional<double> worst;  // of the thread that has least
  std::uint32_t thread = 0;     // that one; 0: no thread had stalls of its own
};

struct Summary {
  Summary(const HeapTrace& heap, Span watched);

  Distribution flips;
  Distribution traps;
  Distribution waits;
  std::vector<UtilisationRow> utilisation;  // 0.1 ms to 1 s, in steps of 1, 2, 5
};

}  // namespace pagetrap::tool
