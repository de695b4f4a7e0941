// Medians and percentiles of a handful of measurements.
#pragma once

#include <vector>

namespace pagetrap::bench {

/// The value below which `fraction` of `values` lie, between neighbours by their distance.
/// Precondition: not empty.
double percentile(std::vector<double> values, double fraction);

inline double median(const std::vector<double>& values) { return percentile(values, 0.5); }

/// One interleaved measurement of both sides.
struct Pair {
  double ours = 0;
  double rival = 0;
};

struct Summary {
  double ours_median = 0;
  double rival_median = 0;
  double ratio = 0;       // median of ours/rival over the pairs, not the ratio of the medians
  double ratio_low = 0;   // 10th percentile over the pairs
  double ratio_high = 0;  // 90th percentile
  int pairs = 0;
};

/// Precondition: not empty.
Summary summarize(const std::vector<Pair>& pairs);

}  // namespace pagetrap::bench
