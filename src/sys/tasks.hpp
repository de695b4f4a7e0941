// The threads of this process, as /proc lists them. Nothing here allocates: other threads may be
// held meanwhile, wherever they are, with malloc's lock too.
#pragma once

#include <dirent.h>
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "sys/fd.hpp"

namespace pagetrap::sys {

/// One pass over the threads of this process.
///
/// A thread that ends during the pass may make the kernel skip others (it goes on by position). A
/// pass is complete, with every thread that was there when it began, if all the threads it found
/// are still there after it.
class PAGETRAP_API ThreadWalk {
 public:
  static Result<ThreadWalk> begin();
  /// The next thread's id; 0: no more, or an error, which failed() tells.
  pid_t next() noexcept;
  /// errno of the pass, 0 if it came to the end.
  [[nodiscard]] int failed() const noexcept { return error_; }

 private:
  explicit ThreadWalk(Descriptor directory) noexcept : directory_(std::move(directory)) {}
  Descriptor directory_;
  alignas(dirent64) std::array<std::byte, 4096> entries_{};
  std::size_t filled_ = 0;
  std::size_t next_ = 0;
  int error_ = 0;
};

/// Whether the kernel still lists the thread. A system call of 100 ns.
PAGETRAP_API bool thread_is_listed(pid_t thread) noexcept;

/// Whether the thread will never run a signal handler: it is gone, a zombie (the first thread of a
/// process that called pthread_exit stays listed), or a worker of the kernel's (io_uring, vhost).
PAGETRAP_API bool thread_takes_no_signals(pid_t thread) noexcept;

/// Thread ids of all threads, complete at some instant during the call. Allocates.
PAGETRAP_API Result<std::vector<pid_t>> list_threads();

}  // namespace pagetrap::sys
