// relax(): for loops that wait for another processor.
#pragma once

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

/// Tells the processor that this thread only waits. No system call.
inline void relax() noexcept PAGETRAP_SIGNAL_SAFE {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#endif
}

}  // namespace pagetrap::sys
