// The process-wide SIGSEGV and SIGBUS handler: when it is installed, and how it lives with others.
#pragma once

#include <signal.h>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {

/// Install pagetrap's handler for SIGSEGV and SIGBUS in front of whatever is there. The first
/// Region that needs signals does this; no global constructor does.
///
/// Chaining  A fault outside every region, or one that a handler declined, goes to the action that
///           was installed before, with that action's own flags and mask; SIG_DFL re-executes the
///           access under the default action, so a core dump shows the faulting instruction.
/// Others    A program that calls sigaction() for these signals LATER replaces pagetrap: its
/// handler
///           must pass foreign faults on to the action sigaction() returned (as pagetrap does), or
///           call install_signal_handlers() again afterwards, which puts pagetrap back in front
///           with the newcomer behind it. Two libraries that each pass faults to the other do not
///           loop.
/// Stacks    runs on the alternate stack if the thread has one (SA_ONSTACK), with no signal blocked
///           (SA_NODEFER, empty mask): nested faults work.
/// Blocked   A thread that blocks SIGSEGV or SIGBUS and faults is killed by the kernel.
/// Threads   any. Idempotent. Returns Error{"sigaction"} if the kernel refuses.
PAGETRAP_API Result<Done> install_signal_handlers();

/// Whether pagetrap's handler is at the front for both signals now.
PAGETRAP_API bool signal_handlers_in_front() noexcept;

/// Called for each SIGSEGV or SIGBUS that no region takes, before it goes to the action that was
/// installed before. It may look and print. Runs inside the signal handler, also for signals that
/// somebody sent (si_code tells).
using StrayFault = void (*)(const siginfo_t& info, void* context) noexcept PAGETRAP_SIGNAL_SAFE;

/// One for the process; null: none. Does not install the handler. Threads any.
PAGETRAP_API void on_stray_fault(StrayFault look) noexcept;

/// Give the calling thread an alternate signal stack of `size_bytes` (rounded up, plus a guard
/// page) unless it has one, so that faults on its own stack, or with its stack exhausted, can be
/// handled. The stack is freed when the thread exits.
PAGETRAP_API Result<Done> ensure_alternate_stack(std::size_t size_bytes = 64 * 1024);

}  // namespace v0
}  // namespace pagetrap
