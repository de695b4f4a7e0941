// Stacks, taken fast enough to be taken at every malloc and free: frame rules are cached by
// instruction, so that a frame costs a load and a few additions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <pagetrap/core/config.hpp>

#include "guard/report/finding.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// Where a stack begins: registers of a function that is running.
struct Registers {
  std::uintptr_t pc = 0;
  std::uintptr_t sp = 0;
  std::uintptr_t bp = 0;
};

/// One frame after the other, from the innermost.
class Walk {
 public:
  /// `exact`: pc is an instruction that was interrupted, not one that a call returns to.
  Walk(Registers registers, bool exact) noexcept PAGETRAP_SIGNAL_SAFE;
  /// False: this frame is the outermost one, or nothing is known of it.
  [[gnu::hot]] bool to_caller() noexcept PAGETRAP_SIGNAL_SAFE;
  Registers at;
  /// Where bp and sp of this frame were read from memory; 0: they followed from the last frame's.
  std::uintptr_t bp_read_at = 0;
  std::uintptr_t sp_read_at = 0;
  /// Where the stack of this frame ends.
  [[nodiscard]] std::uintptr_t top() const noexcept PAGETRAP_SIGNAL_SAFE { return top_; }
  /// Whether that is known: the thread's own stack, all of which is mapped.
  [[nodiscard]] bool is_own_stack() const noexcept PAGETRAP_SIGNAL_SAFE { return own_stack_; }

 private:
  std::uintptr_t top_;
  bool own_stack_;
  bool exact_;
};

/// Puts return addresses into `frames`, innermost first. `exact`: the first pc is an instruction
/// that was interrupted, not one that a call returns to. Cost 5 to 10 ns a frame.
std::size_t unwind(Registers registers, bool exact, std::uintptr_t* frames,
                   std::size_t most) noexcept PAGETRAP_SIGNAL_SAFE;

struct StackFrame {
  std::uintptr_t pc = 0;
  std::uintptr_t function = 0;  // its first instruction, where that is known
  std::uintptr_t stack = 0;     // where the frame is
};
/// The same, and more of each frame: a microsecond for one.
std::size_t unwind(Registers registers, bool exact, std::span<StackFrame> frames) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// The registers of a signal's ucontext_t.
Registers interrupted(const void* context) noexcept PAGETRAP_SIGNAL_SAFE;
/// The registers of the caller of the function whose frame address this is (its frame pointer: we
/// are compiled with them).
Registers caller_of(const void* frame) noexcept PAGETRAP_SIGNAL_SAFE;
/// The callers of that function.
Frames stack_from(const void* frame) noexcept PAGETRAP_SIGNAL_SAFE;
/// The stack of a signal's ucontext_t.
Frames stack_of(const void* context) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
