// The recursion that used up a stack: its innermost frames, and the functions that take turns.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include <pagetrap/core/config.hpp>

#include "guard/stacks/cycle.hpp"
#include "guard/stacks/watched_stack.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

struct Recursion {
  std::array<StackFrame, 512> frames{};  // the innermost, from the one that faulted
  std::size_t count = 0;
  std::size_t depth = 0;        // frames of the whole stack
  bool depth_is_exact = false;  // else it goes on as what was seen
  Cycle cycle;

  /// One turn of it; without a cycle, the innermost frames.
  [[nodiscard]] std::span<const StackFrame> turn() const noexcept PAGETRAP_SIGNAL_SAFE;
  /// What it had called, innermost first. Empty without a cycle.
  [[nodiscard]] std::span<const StackFrame> called() const noexcept PAGETRAP_SIGNAL_SAFE;
};

/// Of the thread that `context` interrupted. Static storage, since an alternate stack has no room
/// for it: one thread at a time.
const Recursion& find_recursion(const WatchedStack& stack, const void* context) noexcept
    PAGETRAP_SIGNAL_SAFE;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
