// Whether any other thread of the program can run now. The library's own threads that never touch
// the program's memory of their own accord say so, and are not counted.
#pragma once

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

/// In a thread of the library, as long as it lives.
///
/// RACE counted after the thread has begun and until before it ends: the count may be less than
/// there are such threads, never more, so that a thread of the program is never taken for ours.
class PAGETRAP_API OwnThread {
 public:
  OwnThread() noexcept;
  ~OwnThread();
  OwnThread(const OwnThread&) = delete;
  OwnThread& operator=(const OwnThread&) = delete;
};

/// True: apart from OwnThreads the caller, which is none, is the only thread of its process, and
/// stays so until it makes another. What it does not see are processes
/// that share the memory (a child of vfork() runs while its parent waits, others are not made by
/// libc), and transfers that the kernel has begun (io_uring, AIO).
/// False also where it cannot be known (no /proc). Cost  a system call, 2 us.
PAGETRAP_API bool alone() noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace pagetrap::sys
