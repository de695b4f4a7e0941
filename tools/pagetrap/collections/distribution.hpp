// How durations are distributed: percentiles, and a histogram in steps of 1, 2, 5.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pagetrap::tool {

class Distribution {
 public:
  explicit Distribution(std::vector<std::uint64_t> nanoseconds);

  [[nodiscard]] std::size_t count() const noexcept { return sorted_.size(); }
  [[nodiscard]] std::uint64_t total() const noexcept { return total_; }
  /// The least of the durations that at least `percent` of them do not exceed. Precondition: there
  /// are some; 0 < percent <= 100.
  [[nodiscard]] std::uint64_t percentile(double percent) const;
  [[nodiscard]] std::uint64_t longest() const noexcept {
    return sorted_.empty() ? 0 : sorted_.back();
  }
  /// How many are in [from, to).
  [[nodiscard]] std::size_t between(std::uint64_t from, std::uint64_t to) const;

 private:
  std::vector<std::uint64_t> sorted_;
  std::uint64_t total_ = 0;
};

/// Bounds of the bins that hold all of `several`, neighbours apart by 2, 2.5 and 2: ..., 1 us, 2
/// us, 5 us, 10 us ... One more than there are bins; empty if there is nothing to hold.
std::vector<std::uint64_t> bin_bounds(std::span<const Distribution* const> several);

}  // namespace pagetrap::tool
