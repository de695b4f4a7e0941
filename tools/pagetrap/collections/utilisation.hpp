// Minimum mutator utilisation, after Cheng and Blelloch (PLDI 2001): in the worst window of a
// length, how much of the time a thread had for itself.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace pagetrap::tool {

/// Nanoseconds of one clock: [begin, end).
struct Span {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  [[nodiscard]] std::uint64_t length() const noexcept { return end - begin; }
  friend bool operator==(const Span&, const Span&) = default;
};

/// When a thread stood still. Overlapping spans count once.
class Pauses {
 public:
  /// Of what happened in `watched`; spans are cut to that.
  Pauses(std::vector<Span> spans, Span watched);

  /// Disjoint, with gaps between them, ascending.
  [[nodiscard]] const std::vector<Span>& spans() const noexcept { return spans_; }
  [[nodiscard]] std::uint64_t longest() const noexcept;
  /// In all of the time that was watched.
  [[nodiscard]] std::uint64_t total() const noexcept { return before_.back(); }

  /// 1 - (the most pause in a window of so many ns that lies in the watched time) / window. Exact.
  /// Nothing if no such window does. Precondition: window > 0.
  [[nodiscard]] std::optional<double> minimum_utilisation(std::uint64_t window) const;

 private:
  /// How much pause there was before `time`.
  [[nodiscard]] std::uint64_t until(std::uint64_t time) const;

  Span watched_;
  std::vector<Span> spans_;
  std::vector<std::uint64_t> before_;  // before each span, and in the end all
};

}  // namespace pagetrap::tool
