// Names of this process and its threads, asked for without allocating.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string_view>

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

/// The program's file, put into `room`. Empty: no /proc.
PAGETRAP_API std::string_view executable(std::span<char> room) noexcept PAGETRAP_SIGNAL_SAFE;
/// A thread's name (16 bytes at most). Empty: it has ended.
PAGETRAP_API std::string_view name_of_thread(pid_t thread, std::span<char> room) noexcept
    PAGETRAP_SIGNAL_SAFE;
/// A file of /proc/self, as much as fits; bytes, or -errno. From before main() on.
PAGETRAP_API long read_file(const char* path, std::span<char> room) noexcept PAGETRAP_SIGNAL_SAFE;
/// Opened for appending, made if need be: a descriptor, or -errno.
PAGETRAP_API int open_for_append(const char* path) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace pagetrap::sys
