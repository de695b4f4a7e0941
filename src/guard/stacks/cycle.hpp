// The recursion in a stack: the sequence of functions that repeats.
#pragma once

#include <cstddef>
#include <span>

#include <pagetrap/core/config.hpp>

#include "guard/unwind/unwind.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

struct Cycle {
  std::size_t begin = 0;   // frames of the sample before it
  std::size_t period = 0;  // functions in it; 0: there is none
  std::size_t frames = 0;  // that follow it
};

/// The shortest period that most of `frames` (innermost first) follow, three times at least. By
/// functions, not by instructions: one that calls itself in two places is one.
Cycle find_cycle(std::span<const StackFrame> frames) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
