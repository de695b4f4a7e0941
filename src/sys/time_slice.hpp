// How long the scheduler lets a thread run at a time.
#pragma once

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

/// Asks for the shortest turns that there are (0.1 ms) for the calling thread: it gets a CPU sooner
/// when it is woken, and whoever shares that CPU waits for it no longer than that at a time. Its
/// share stays the same. For threads of ours that others wait for. Without effect before Linux
/// 6.12, and on real-time threads.
/// SOURCE  sched_setattr(2); custom slices of EEVDF, Linux 6.12.
PAGETRAP_API void ask_for_short_turns() noexcept;

/// Lets the calling thread run before all ordinary ones, as soon as it is woken (SCHED_FIFO), where
/// this user may; else asks for short turns. For threads of ours that others wait for and that do
/// nothing but a system call at a time. What it creates does not inherit that.
PAGETRAP_API void go_first() noexcept;

/// Lets the calling thread run where others leave room: nice 19. For threads of ours that nobody
/// waits for.
PAGETRAP_API void give_way() noexcept;

/// In nanoseconds; 0: the kernel does not say.
PAGETRAP_API unsigned long long turn_of_this_thread() noexcept;

}  // namespace pagetrap::sys
