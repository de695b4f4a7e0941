// The calls that a preload shim interposes, under names of our own: what the C library's do, but
// not to be interposed, and good before any constructor has run. errno and results as theirs.
#pragma once

#include <sys/types.h>

#include <cstddef>

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

PAGETRAP_API void* plain_mmap(void* address, std::size_t length, int prot, int flags,
                              int descriptor, off_t offset) noexcept;
PAGETRAP_API int plain_munmap(void* address, std::size_t length) noexcept;
PAGETRAP_API void* plain_mremap(void* address, std::size_t from, std::size_t to, int flags,
                                void* where) noexcept;
PAGETRAP_API int plain_madvise(void* address, std::size_t length, int advice) noexcept;
PAGETRAP_API int plain_mprotect(void* address, std::size_t length, int prot) noexcept;
PAGETRAP_API int plain_mlock(const void* address, std::size_t length) noexcept;
PAGETRAP_API int plain_mlockall(int flags) noexcept;

/// Pages of this process in memory, as /proc/self/statm has them; 0 if it cannot be read.
PAGETRAP_API std::size_t resident_pages() noexcept;

}  // namespace pagetrap::sys
