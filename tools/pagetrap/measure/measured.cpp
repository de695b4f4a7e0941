#include "measured.hpp"

#include <time.h>

#include <algorithm>
#include <limits>

namespace pagetrap::tool {

double Measured::operator[](std::string_view what) const {
  for (const Figure& figure : *this) {
    if (figure.what.view() == what) return figure.nanoseconds;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

double Samples::median() {
  if (values_.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = values_.begin() + static_cast<std::ptrdiff_t>(values_.size() / 2);
  std::nth_element(values_.begin(), middle, values_.end());
  return *middle;
}

std::string words_of(const std::exception& error) {
  const auto* const ours = dynamic_cast<const SystemError*>(&error);
  return ours != nullptr ? describe(ours->error()) : error.what();
}

double now_ns() noexcept {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);  // signal-safety(7)
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

}  // namespace pagetrap::tool
