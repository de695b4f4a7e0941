// The signal frames that a thread will return through.
#pragma once

#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {

/// Calls `visit(self, context)` for the ucontext_t of each signal handler whose frame is on the
/// stack from `stack_pointer` on, innermost first: those that the code there is running inside of.
/// False if this machine's frames are not known. Signal-safe.
///
/// How: the kernel puts a frame on the stack, whose first word is the address of the C library's
/// sigreturn stub; the same word that sigaction(2) knows as sa_restorer. The stack is searched
/// upward from the interrupted stack pointer for that word followed by a frame whose register area
/// carries the kernel's magic numbers; each frame tells the stack pointer to go on from (alternate
/// stacks). Memory is read through the kernel, so the end of the stack ends the search.
///
/// Not found: handlers on a stack that was left by swapcontext() while they run.
using FrameVisitor = void (*)(void* self, void* context) noexcept PAGETRAP_SIGNAL_SAFE;
bool for_each_outer_frame(std::uintptr_t stack_pointer, FrameVisitor visit, void* self) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// Learn the address of the stub. Called when a handler of ours is installed.
void learn_signal_restorer() noexcept;

}  // namespace v0
}  // namespace pagetrap
