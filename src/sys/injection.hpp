// Error injection for tests: make the n-th call of one wrapper fail with a chosen errno, with the
// real kernel underneath. Costs the wrappers one relaxed load of a word that is never written
// outside tests.
#pragma once

#include <pagetrap/core/config.hpp>

#include "sys/switches.hpp"

namespace pagetrap::sys {

/// The wrappers that can be made to fail.
enum class Call : int {
  none,
  mprotect,
  madvise,
  mmap,
  memfd_create,
  userfaultfd,
  uffd_register,
  uffd_write_protect,
  uffd_copy,
  uffd_zero,
  uffd_continue,
  uffd_move,
  pagemap_scan,
  mremap,
  pwrite,
  pkey_alloc,
  perf_event_open,
  pread,
  write,
  short_write,  // no failure: "error" is how many bytes the call takes
  fsync,
  rename,
  process_madvise,
};

/// Let `skip` calls of `call` pass, then fail the next `times` with `error`. Replaces an earlier
/// request; Call::none switches injection off. Not for concurrent use of several tests.
PAGETRAP_API void inject(Call call, int error, int skip = 0, int times = 1) noexcept;

/// Used by the wrappers: the errno to fail with now, or 0.
PAGETRAP_API int injected_slow(Call call) noexcept PAGETRAP_SIGNAL_SAFE;

inline int injected(Call call) noexcept PAGETRAP_SIGNAL_SAFE {
  if (switches.injected_call.load(std::memory_order_relaxed) != static_cast<int>(call)) [[likely]]
    return 0;
  return injected_slow(call);
}

}  // namespace pagetrap::sys
