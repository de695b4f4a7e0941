// The stack that the C library gave a thread, and the thread's name.
#pragma once

#include <array>
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

/// Of the calling thread; ends in a zero.
PAGETRAP_API std::array<char, 17> thread_name() noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace pagetrap::sys
