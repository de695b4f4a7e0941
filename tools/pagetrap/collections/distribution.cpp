#include "distribution.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pagetrap::tool {

Distribution::Distribution(std::vector<std::uint64_t> nanoseconds)
    : sorted_(std::move(nanoseconds)),
      total_(std::accumulate(sorted_.begin(), sorted_.end(), std::uint64_t{0})) {
  std::sort(sorted_.begin(), sorted_.end());
}

std::uint64_t Distribution::percentile(double percent) const {
  const double rank = std::ceil(percent / 100 * static_cast<double>(sorted_.size()));
  const auto index = static_cast<std::size_t>(std::max(rank, 1.0)) - 1;
  return sorted_[std::min(index, sorted_.size() - 1)];
}

std::size_t Distribution::between(std::uint64_t from, std::uint64_t to) const {
  const auto first = std::lower_bound(sorted_.begin(), sorted_.end(), from);
  const auto last = std::lower_bound(first, sorted_.end(), to);
  return static_cast<std::size_t>(last - first);
}

std::vector<std::uint64_t> bin_bounds(std::span<const Distribution* const> several) {
  std::uint64_t least = ~std::uint64_t{0};
  std::uint64_t most = 0;
  bool any = false;
  for (const Distribution* const one : several) {
    if (one->count() == 0) continue;
    any = true;
    least = std::min(least, one->percentile(1e-9));
    most = std::max(most, one->longest());
  }
  std::vector<std::uint64_t> bounds;
  if (!any) return bounds;
  if (least == 0) bounds.push_back(0);
  constexpr std::uint64_t kTooLarge = 1'000'000'000'000'000'000;  // thirty years
  for (std::uint64_t power = 1; power < kTooLarge; power *= 10) {
    for (const std::uint64_t step : {1U, 2U, 5U}) {
      const std::uint64_t bound = power * step;
      if (bound <= least) bounds.clear();
      bounds.push_back(bound);
      if (bound > most && bounds.size() > 1) return bounds;
    }
  }
  return bounds;
}

}  // namespace pagetrap::tool
