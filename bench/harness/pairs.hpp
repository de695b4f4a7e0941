// Interleaved pairs: the heart of the method.
#pragma once

#include <algorithm>

#include "harness/clock.hpp"
#include "harness/question.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

/// Measure `ours()` and `rival()` in turns. Each returns the cost of one operation, measured over a
/// batch of its own; each pair runs both, in alternating order, so that a drift of the machine and
/// whatever one side leaves in the caches favour neither. The first pair is warm-up, and not
/// reported. Goes on until the effort's time or its largest number of pairs is reached; `go_on`
/// may end it earlier (a side that has run out of work).
template <class Ours, class Rival, class GoOn>
void interleave(const Effort& effort, Report& report, Ours&& ours, Rival&& rival, GoOn&& go_on) {
  const double begin = now_ns();
  for (int i = -1; i < effort.max_pairs && go_on(); ++i) {
    if (i >= effort.min_pairs && now_ns() - begin > effort.seconds * 1e9) break;
    double our_cost = 0;
    double rival_cost = 0;
    if (i % 2 == 0) {
      our_cost = ours();
      rival_cost = rival();
    } else {
      rival_cost = rival();
      our_cost = ours();
    }
    // A side that ran out of work in the middle of its batch has measured something else.
    if (i >= 0 && go_on()) report.pair(our_cost, rival_cost);
  }
}

template <class Ours, class Rival>
void interleave(const Effort& effort, Report& report, Ours&& ours, Rival&& rival) {
  interleave(effort, report, ours, rival, [] { return true; });
}

/// For operations that take milliseconds: fewer pairs are enough, and all that time allows.
inline Effort with_fewer_pairs(Effort effort, int min_pairs) {
  effort.min_pairs = std::min(effort.min_pairs, min_pairs);
  return effort;
}

}  // namespace pagetrap::bench
