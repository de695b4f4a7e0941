#include "harness/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace pagetrap::bench {

double percentile(std::vector<double> values, double fraction) {
  std::sort(values.begin(), values.end());
  const double place = fraction * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(place));
  const std::size_t above = std::min(below + 1, values.size() - 1);
  const double share = place - std::floor(place);
  return values[below] + share * (values[above] - values[below]);
}

Summary summarize(const std::vector<Pair>& pairs) {
  std::vector<double> ours;
  std::vector<double> rival;
  std::vector<double> ratios;
  for (const Pair& pair : pairs) {
    ours.push_back(pair.ours);
    rival.push_back(pair.rival);
    ratios.push_back(pair.ours / pair.rival);
  }
  Summary summary;
  summary.ours_median = median(ours);
  summary.rival_median = median(rival);
  summary.ratio = median(ratios);
  summary.ratio_low = percentile(ratios, 0.1);
  summary.ratio_high = percentile(ratios, 0.9);
  summary.pairs = static_cast<int>(pairs.size());
  return summary;
}

}  // namespace pagetrap::bench
