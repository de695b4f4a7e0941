#include "guard/stacks/cycle.hpp"

#include <algorithm>

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

constexpr std::size_t kLongest = 64;  // functions in a cycle
constexpr std::size_t kBefore = 64;   // frames of what the recursion called last

std::uintptr_t identity(const StackFrame& frame) noexcept PAGETRAP_SIGNAL_SAFE {
  return frame.function != 0 ? frame.function : frame.pc;
}

std::size_t follows(std::span<const StackFrame> frames, std::size_t begin,
                    std::size_t period) noexcept PAGETRAP_SIGNAL_SAFE {
  std::size_t next = begin + period;
  while (next < frames.size() && identity(frames[next]) == identity(frames[next - period])) ++next;
  return next - begin;
}

}  // namespace

Cycle find_cycle(std::span<const StackFrame> frames) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t last_begin = std::min(kBefore, frames.size());
  for (std::size_t period = 1; period <= kLongest; ++period) {
    for (std::size_t begin = 0; begin < last_begin; ++begin) {
      if (frames.size() - begin < 3 * period) break;
      const std::size_t length = follows(frames, begin, period);
      if (length >= 3 * period && length >= (frames.size() - begin) / 2)
        return {begin, period, length};
    }
  }
  return {};
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
