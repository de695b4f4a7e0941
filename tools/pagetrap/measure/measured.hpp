// What a measurement in a child process brings home.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "contained.hpp"

namespace pagetrap::tool {

/// A literal-like text of bounded length that can cross to another process.
template <std::size_t Capacity>
class FixedText {
 public:
  void set(std::string_view words) {
    const std::size_t length = words.size() < Capacity ? words.size() : Capacity - 1;
    words.copy(buffer_.data(), length);
    buffer_[length] = '\0';
  }
  [[nodiscard]] std::string_view view() const { return buffer_.data(); }

 private:
  std::array<char, Capacity> buffer_{};
};

/// One number with its meaning.
struct Figure {
  FixedText<48> what;
  double nanoseconds = 0;
};

/// All fields are bytes: a child writes them into shared memory.
class Measured {
 public:
  void add(std::string_view what, double nanoseconds) {
    if (count_ == figures_.size()) return;
    figures_[count_].what.set(what);
    figures_[count_].nanoseconds = nanoseconds;
    ++count_;
  }
  [[nodiscard]] const Figure* begin() const { return figures_.data(); }
  [[nodiscard]] const Figure* end() const { return figures_.data() + count_; }
  /// The figure called `what`, or NaN.
  [[nodiscard]] double operator[](std::string_view what) const;

  FixedText<32> mechanism;  // name of what served the region that was really made
  FixedText<512> problem;   // empty if all went well

 private:
  std::array<Figure, 8> figures_{};
  std::size_t count_ = 0;
};
static_assert(std::is_trivially_copyable_v<Measured>);

/// What `error` says, and for pagetrap's own errors nothing twice.
std::string words_of(const std::exception& error);

/// Runs `measure(Measured&)` in a child of its own; a thrown error or a crash becomes `problem`.
template <class Measure>
Measured measure_apart(Measure measure) {
  constexpr unsigned kSeconds = 10;  // a hundred times what a measurement takes
  auto result = contained<Measured>(kSeconds, [&](Measured& measured) {
    try {
      measure(measured);
    } catch (const std::exception& error) {
      measured.problem.set(words_of(error));
    }
  });
  if (!result.failure.empty()) result.answer.problem.set(result.failure);
  return result.answer;
}

/// How long one measurement repeats itself.
using Budget = std::chrono::milliseconds;

/// Collects times until the budget is spent; the median is what is reported, since a single
/// descheduling is a thousand times the thing measured.
class Samples {
 public:
  explicit Samples(Budget budget) : end_(std::chrono::steady_clock::now() + budget) {
    constexpr std::size_t kMost = 1 << 16;
    values_.reserve(kMost);
  }
  [[nodiscard]] bool wants_more() const {
    // At least three, so that a slow thing has a median too.
    return values_.size() < values_.capacity() &&
           (values_.size() < 3 || std::chrono::steady_clock::now() < end_);
  }
  void add(double nanoseconds) { values_.push_back(nanoseconds); }
  [[nodiscard]] double median();

 private:
  std::chrono::steady_clock::time_point end_;
  std::vector<double> values_;
};

/// CLOCK_MONOTONIC; usable in fault handlers.
double now_ns() noexcept;

}  // namespace pagetrap::tool
