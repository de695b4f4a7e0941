// The threads of this process, as /proc lists them.
#pragma once

#include <sys/types.h>

#include <vector>

#include <pagetrap/core/result.hpp>

namespace pagetrap::sys {

/// Thread ids of all threads, complete at some instant during the call: repeated until the list is
/// as long as the kernel's own count (readdir of a list that shrinks may skip an entry).
PAGETRAP_API Result<std::vector<pid_t>> list_threads();

/// Whether the thread will never run user code again: gone, or a zombie (the first thread of a
/// process that called pthread_exit stays listed).
PAGETRAP_API bool thread_is_gone(pid_t thread) noexcept;

}  // namespace pagetrap::sys
