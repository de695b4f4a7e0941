#include "guard/stacks/recursion.hpp"

#include <algorithm>

#include "guard/unwind/unwind.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

constexpr std::size_t kFewest = 16;     // fewer of a whole stack: the unwinder found no way
constexpr std::size_t kMostShown = 16;  // without a cycle, and before one

constinit Recursion found{};

// Where functions have no tables: by frame pointers, as far as they stay in the stack.
std::size_t follow_frame_pointers(const Registers& at, std::uintptr_t high,
                                  std::span<StackFrame> frames) noexcept PAGETRAP_SIGNAL_SAFE {
  constexpr std::size_t kWord = sizeof(std::uintptr_t);
  std::size_t count = 0;
  frames[count++] = {at.pc, 0, at.sp};
  std::uintptr_t frame = at.bp;
  while (frame >= at.sp && frame % kWord == 0 && frame + 2 * kWord <= high &&
         count < frames.size()) {
    const auto* const words = reinterpret_cast<const std::uintptr_t*>(frame);
    frames[count++] = {words[1], 0, frame};
    if (words[0] <= frame) break;
    frame = words[0];
  }
  return count;
}

void measure_depth(Recursion& recursion, std::uintptr_t high) noexcept PAGETRAP_SIGNAL_SAFE {
  recursion.depth = recursion.count;
  if (recursion.depth_is_exact) return;
  // The rest is as long as what was seen.
  const std::size_t last = recursion.count - 1;
  const std::uintptr_t end = recursion.frames[last].stack;
  const std::size_t seen = end - recursion.frames[0].stack;
  if (seen != 0 && high > end) recursion.depth += (high - end) * last / seen;
}

}  // namespace

std::span<const StackFrame> Recursion::turn() const noexcept PAGETRAP_SIGNAL_SAFE {
  if (cycle.period == 0) return {frames.data(), std::min(count, kMostShown)};
  return {frames.data() + cycle.begin, cycle.period};
}

std::span<const StackFrame> Recursion::called() const noexcept PAGETRAP_SIGNAL_SAFE {
  return {frames.data(), cycle.period == 0 ? 0 : std::min(cycle.begin, kMostShown)};
}

const Recursion& find_recursion(const WatchedStack& stack, const void* context) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const Registers at = interrupted(context);
  found.count = unwind(at, true, found.frames);
  const bool by_tables = found.count >= kFewest;
  // A guess at frames reads no lower than what has been used.
  if (!by_tables && at.bp >= stack.low)
    found.count = follow_frame_pointers(at, stack.high, found.frames);
  found.depth_is_exact = by_tables && found.count < found.frames.size();
  found.cycle = find_cycle({found.frames.data(), found.count});
  measure_depth(found, stack.high);
  return found;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
