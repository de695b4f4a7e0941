// Capture: the stack of a malloc or free, for little where it is much like the one before.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "guard/unwind/depot.hpp"
#include "guard/unwind/unwind.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// What a thread's last walk from one kind of place met, and what earlier ones met outside of that.
/// The outer frames of the next one are mostly the same: where a frame has the registers that it
/// had, and all words that the walk read from there on are what they were, those frames are taken
/// from here, without their rules.
struct LastWalk {
  struct Frame {
    Registers at;
    std::uintptr_t bp_read_at = 0;  // see Walk
    std::uintptr_t sp_read_at = 0;
    std::uint64_t sum = 0;  // of this frame and all outside of it: see capture.cpp
  };
  static constexpr std::size_t kRoom = 64;
  std::array<Frame, kRoom> frames{};  // the outermost first
  std::size_t count = 0;
  std::uint64_t sum_outside = 0;           // of what was outside of the first
  bool whole = false;                      // the first is the outermost of its stack
  std::uint32_t stack = 0;                 // the number of the last one
  std::array<Frame, kKeptFrames> inner{};  // while a walk lasts: what is new, the innermost first
};

/// Numbers of stacks that a thread met, by their hashes, so that the depot is not searched.
struct KnownStacks {
  struct Entry {
    std::uint64_t hash = 0;
    std::uint32_t stack = 0;
  };
  std::array<Entry, 512> entries{};
};

/// A thread's own.
struct Capture {
  LastWalk allocations{};
  LastWalk releases{};
  KnownStacks known{};
};

/// The number in the depot of the stack of the callers of the function whose frame address this
/// is. 0: no memory for it. Cost 20 ns where the thread's last one was the same, as unwind() where
/// nothing is known.
std::uint32_t capture(const void* frame, LastWalk& last, KnownStacks& known) noexcept;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
