// The stack that a thread was given, by the C library or the kernel.
#pragma once

#include <cstddef>

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

struct ThreadStack {
  std::byte* low = nullptr;  // as far as it may grow
  std::byte* high = nullptr;
  std::size_t guard_bytes = 0;  // without rights, below `low`; 0: the kernel's gap
  bool of_first_thread = false;
};

/// Of the calling thread. Returns errno. Allocates.
PAGETRAP_API int find_thread_stack(ThreadStack& found) noexcept;

/// Of the process's first thread, whichever calls; as its limit is now (without one, 64 MiB).
/// Nothing: there is no auxiliary vector.
PAGETRAP_API ThreadStack first_thread_stack() noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace pagetrap::sys
