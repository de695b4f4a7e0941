#include "utilisation.hpp"

#include <algorithm>

namespace pagetrap::tool {

Pauses::Pauses(std::vector<Span> spans, Span watched) : watched_(watched) {
  for (Span& span : spans) {
    span.begin = std::clamp(span.begin, watched.begin, watched.end);
    span.end = std::clamp(span.end, watched.begin, watched.end);
  }
  std::erase_if(spans, [](const Span& span) { return span.begin >= span.end; });
  std::sort(spans.begin(), spans.end(),
            [](const Span& a, const Span& b) { return a.begin < b.begin; });
  for (const Span& span : spans) {
    if (!spans_.empty() && span.begin <= spans_.back().end) {
      spans_.back().end = std::max(spans_.back().end, span.end);
    } else {
      spans_.push_back(span);
    }
  }
  before_.reserve(spans_.size() + 1);
  before_.push_back(0);
  for (const Span& span : spans_) before_.push_back(before_.back() + span.length());
}

std::uint64_t Pauses::longest() const noexcept {
  std::uint64_t most = 0;
  for (const Span& span : spans_) most = std::max(most, span.length());
  return most;
}

std::uint64_t Pauses::until(std::uint64_t time) const {
  const auto after =
      std::upper_bound(spans_.begin(), spans_.end(), time,
                       [](std::uint64_t t, const Span& span) { return t < span.begin; });
  const auto index = static_cast<std::size_t>(after - spans_.begin());
  if (index == 0) return 0;
  const Span& last = spans_[index - 1];
  return before_[index - 1] + std::min(time, last.end) - last.begin;
}

// As a window slides, the pause in it grows while its end is in a pause and its begin is not, and
// shrinks the other way round. So the most is in a window that begins where a pause does, or ends
// where one does, or is the first or the last.
std::optional<double> Pauses::minimum_utilisation(std::uint64_t window) const {
  if (watched_.length() < window) return std::nullopt;
  const std::uint64_t last = watched_.end - window;
  std::uint64_t most = 0;
  const auto look = [&](std::uint64_t begin) {
    most = std::max(most, until(begin + window) - until(begin));
  };
  look(watched_.begin);
  look(last);
  for (const Span& span : spans_) {
    if (span.begin <= last) look(span.begin);
    if (span.end >= watched_.begin + window) look(span.end - window);
  }
  return 1 - static_cast<double>(most) / static_cast<double>(window);
}

}  // namespace pagetrap::tool
