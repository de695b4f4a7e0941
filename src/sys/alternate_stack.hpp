// Alternate signal stacks: which one a thread has, and more room than a small one gives.
#pragma once

#include <signal.h>

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

/// The calling thread's, as sigaltstack(2) tells it.
PAGETRAP_API stack_t alternate_stack() noexcept PAGETRAP_SIGNAL_SAFE;

/// Calls `work(self)`, on 64 KiB of static storage if this thread runs on an alternate stack of
/// less than 32 KiB. One thread at a time. Signals but those of faults must be blocked: the kernel
/// does not know that the alternate stack is still in use.
PAGETRAP_API void call_with_room(void (*work)(void* self) noexcept, void* self) noexcept
    PAGETRAP_SIGNAL_SAFE;

}  // namespace pagetrap::sys
