// How long things took.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace example {

/// Counts of durations in bins an eighth of an octave wide, and the longest.
class Durations {
 public:
  void add(double nanoseconds) {
    std::size_t bin = 0;
    for (double limit = kFirst; bin + 1 < kBins && nanoseconds >= limit; ++bin) limit *= kStep;
    ++counts_[bin];
    ++count_;
    longest_ = std::max(longest_, nanoseconds);
  }
  void add(const Durations& other) {
    for (std::size_t i = 0; i < kBins; ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    longest_ = std::max(longest_, other.longest_);
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] double longest() const { return longest_; }
  /// That so many of a thousand do not exceed, to a tenth.
  [[nodiscard]] double per_mille(double share) const {
    double limit = kFirst;
    double seen = 0;
    for (std::size_t i = 0; i < kBins; ++i, limit *= kStep) {
      seen += static_cast<double>(counts_[i]);
      if (seen >= share / 1000 * static_cast<double>(count_)) return std::min(limit, longest_);
    }
    return longest_;
  }

 private:
  static constexpr std::size_t kBins = 240;
  static constexpr double kFirst = 100;
  static constexpr double kStep = 1.0905;  // the eighth root of 2
  std::array<std::uint64_t, kBins> counts_{};
  std::uint64_t count_ = 0;
  double longest_ = 0;
};

}  // namespace example
