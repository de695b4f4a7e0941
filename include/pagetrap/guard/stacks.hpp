// Stack overflow on any thread: caught, named, and said with the recursion that did it.
#pragma once

#include <cstddef>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// At the low end of each watched stack, if a quarter of the stack is as much: frames that are
/// larger may jump over it. The kernel keeps as much free below the first thread's stack.
inline constexpr std::size_t kStackGuardBytes = 1_MiB;

/// What watch_this_stack() takes from a stack of `stack_bytes`: who creates threads can make their
/// stacks longer by it.
PAGETRAP_API std::size_t stack_guard_bytes(std::size_t stack_bytes) noexcept;

/// Watch the calling thread's stack, and from now on those of all threads that call
/// watch_this_stack(). Idempotent.
///
/// On an overflow a report goes to standard error: thread, stack, how deep it was, and which
/// functions call each other. Then the fault goes to whoever handled SIGSEGV before; by default the
/// process ends by it. See install_signal_handlers() for later sigaction() calls.
/// Errors  of sigaction(2), sigaltstack(2), mmap(2).
PAGETRAP_API Result<Done> watch_stacks();

/// In a new thread, as early as possible: an alternate signal stack and a wide guard. Both are
/// undone when the thread ends. An alternate stack that the thread has already stays; the report
/// needs 32 KiB of it. Before Linux 6.13 the guard is the page that the C library made.
/// Idempotent; does not install the signal handler.
PAGETRAP_API Result<Done> watch_this_stack();

/// For a shim that creates threads in front of the C library, instead of watch_stacks(): from now
/// on the handler of problem.hpp knows overflows, and they are problems like others: reported where
/// report_to() said, after which the process ends as it says. Where the program handles SIGSEGV on
/// an alternate stack of its own, the fault goes there after the report.
/// The first thread is watched; it needs an alternate stack.
PAGETRAP_API void report_stack_overflows() noexcept;

/// A stack as who made it knows it.
struct StackBounds {
  const void* low = nullptr;  // null: the first thread's, which is asked for when it matters
  const void* high = nullptr;
  std::size_t guard_bytes = 0;      // below `low`: faults there are overflows
  const void* alternate = nullptr;  // start of the alternate stack that the shim installed
};
/// Watches the calling thread's. Nothing is installed, allocated, or undone at the thread's end.
PAGETRAP_API void watch_stack(const StackBounds& bounds) noexcept;

/// Whether the calling thread's is watched.
PAGETRAP_API bool this_stack_is_watched() noexcept;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
