// What each barrier instruction costs on this machine, over the same loop without it.
#pragma once

#include <vector>

#include "harness/question.hpp"

namespace pagetrap::bench {

/// A cost with its 10th and 90th percentile, in nanoseconds.
struct Cost {
  double median_ns = 0;
  double low_ns = 0;
  double high_ns = 0;
  double noise_ns = 0;  // 90th percentile of what a loop seems to cost over itself

  /// Not to be told from nothing: more than a tenth of the pairs saw no more than noise.
  [[nodiscard]] bool within_noise() const noexcept { return low_ns <= noise_ns; }
};

struct TwinCosts {
  Cost read_barrier_chasing;    // each load waits for the one before: a list, a tree
  Cost read_barrier_streaming;  // loads that do not wait for each other
  Cost card_mark;
  Cost conditional_card_mark;
  Cost limit_check;
};

TwinCosts measure_twins(const Effort& effort);

/// The summary of a list of costs. Precondition: not empty.
Cost cost_of(const std::vector<double>& nanoseconds);

}  // namespace pagetrap::bench
