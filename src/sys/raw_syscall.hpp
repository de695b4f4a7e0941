// A system call without the C library: no errno, no procedure table, no second page of code. The
// fault path's calls are short, and after a TLB flush each page touched counts.
#pragma once

#include <pagetrap/core/config.hpp>

#if !defined(__x86_64__)
#include <cerrno>

#include <unistd.h>
#endif

namespace pagetrap::sys {

/// Result as the kernel gives it: -errno on failure.
#if defined(__x86_64__)
inline long raw_syscall3(long number, unsigned long a, unsigned long b, unsigned long c) noexcept
    PAGETRAP_SIGNAL_SAFE {
  long result = 0;
  asm volatile("syscall"
               : "=a"(result)
               : "0"(number), "D"(a), "S"(b), "d"(c)
               : "rcx", "r11", "memory");
  return result;
}
inline long raw_syscall6(long number, unsigned long a, unsigned long b, unsigned long c,
                         unsigned long d, unsigned long e, unsigned long f) noexcept
    PAGETRAP_SIGNAL_SAFE {
  long result = 0;
  register unsigned long fourth asm("r10") = d;
  register unsigned long fifth asm("r8") = e;
  register unsigned long sixth asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "0"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
               : "rcx", "r11", "memory");
  return result;
}
#else
inline long raw_syscall3(long number, unsigned long a, unsigned long b, unsigned long c) noexcept {
  const int saved = errno;
  long result = ::syscall(number, a, b, c);
  if (result < 0) result = -errno;
  errno = saved;
  return result;
}
inline long raw_syscall6(long number, unsigned long a, unsigned long b, unsigned long c,
                         unsigned long d, unsigned long e, unsigned long f) noexcept {
  const int saved = errno;
  long result = ::syscall(number, a, b, c, d, e, f);
  if (result < 0) result = -errno;
  errno = saved;
  return result;
}
#endif

}  // namespace pagetrap::sys
