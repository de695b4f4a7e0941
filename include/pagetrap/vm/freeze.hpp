// Freeze and thaw: what Region::freeze() means for threads, and the thread-side helpers.
//
// A freezable region carries a protection key. freeze() sends every thread of the process a signal
// whose handler takes the key's rights away in the interrupted register state; it returns when all
// have answered. A frozen thread that touches the region faults: its handler is called with
// fault.frozen set (verdict `retry` waits for the thaw); a region without handler just waits.
// thaw() opens the region; threads regain their rights at their next access.
//
// Where the CPU or kernel has no protection keys, freeze() falls back to protect() of the whole
// region: same meaning, but time grows with pages (doctor tells which is in use).
#pragma once

#include <chrono>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {

/// Whether freeze() can use protection keys here. Probes once; not signal-safe.
PAGETRAP_API bool protection_keys_available();

/// Which signal the broadcasts use: the highest real-time signal that nobody had taken at first
/// use, or PAGETRAP_SIGNAL=number from the environment. Programs must not block it for long.
PAGETRAP_API int freeze_signal();

/// How long freeze() waits for threads that do not answer because they block the signal. Then it
/// gives up with Error{ETIMEDOUT} and thaws. Default one second. Threads any.
PAGETRAP_API void set_freeze_timeout(std::chrono::milliseconds limit) noexcept;

/// Runs in a thread other than the caller's, inside a signal handler: must be signal-safe.
/// `context` is the thread's ucontext_t*.
using ThreadWork = void (*)(void* self, void* context) noexcept PAGETRAP_SIGNAL_SAFE;
/// Runs in the calling thread while all others are held, wherever they are: one may have malloc's
/// lock, or any other, so it must be signal-safe in all but name, and may touch no page that is
/// served by handler threads. Signals of the caller wait until it is over.
using Rendezvous = void (*)(void* self);

/// Run `work(self, context)` in every other thread of the process and return when each has done it:
/// threads born meanwhile too, threads that exit are not waited for. With `rendezvous`, all of them
/// are then held where they are (not in the kernel: no page fault is half done) while it runs.
/// Left out are the kernel's own workers in this process (io_uring, vhost): they take no signals,
/// and obey no protection key either.
/// Not signal-safe; calls exclude each other.
/// Errors  ETIMEDOUT after set_freeze_timeout(): some thread blocks freeze_signal(). `work` has run
///         in the others then, and `rendezvous` has not.
/// Cost    about 4 us per running thread, more for a sleeping one.
PAGETRAP_API Result<Done> for_every_other_thread(ThreadWork work, void* self,
                                                 Rendezvous rendezvous = nullptr);

}  // namespace v0
}  // namespace pagetrap
