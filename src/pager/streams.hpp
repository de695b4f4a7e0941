// Streams: which faults follow each other. A few sequential readers of one region are told apart by
// where their next fault is expected.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace pager {

class Streams {
 public:
  /// How far a stream has grown: pages to fill at once. 1: no stream.
  struct Step {
    std::size_t run = 1;
    std::size_t stream = 0;
  };

  /// A fault on page `index`. Any number of threads; a lost update costs a detection.
  Step next(std::uint64_t index, std::size_t longest) noexcept PAGETRAP_SIGNAL_SAFE {
    for (std::size_t i = 0; i < expected_.size(); ++i) {
      const std::uint64_t known = expected_[i].load(std::memory_order_relaxed);
      const std::uint64_t awaited = known >> kRunBits;
      const std::uint64_t run = known & kRunMask;
      // Not only exactly there: what was asked of the helper may not have been done.
      const std::uint64_t slack = run < kLong ? 0 : kSlack;
      if (run == 0 || index > awaited || index + slack < awaited) continue;
      const std::size_t grown = 2 * static_cast<std::size_t>(run);
      return {grown < longest ? grown : longest, i};
    }
    return {1, oldest_.fetch_add(1, std::memory_order_relaxed) % expected_.size()};
  }
  /// The stream's next fault is expected at `index`.
  void expect(Step step, std::uint64_t index) noexcept PAGETRAP_SIGNAL_SAFE {
    expected_[step.stream].store(index << kRunBits | (step.run & kRunMask),
                                 std::memory_order_relaxed);
  }

 private:
  static constexpr unsigned kRunBits = 8;
  static constexpr std::uint64_t kRunMask = 255;
  static constexpr std::uint64_t kSlack = 256;
  static constexpr std::uint64_t kLong = 16;  // only then the helper was asked for anything
  std::array<std::atomic<std::uint64_t>, 8> expected_{};  // page << 8 | run; 0: none
  std::atomic<std::uint32_t> oldest_{0};
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
