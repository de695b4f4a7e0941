// ASSUMES raw system calls only: see signal_safe_calls.cpp.
#include "sys/process_names.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <pagetrap/core/signal_safe_text.hpp>

#include "sys/raw_syscall.hpp"
#include "sys/signal_safe_calls.hpp"

#if defined(__clang__) && __clang_major__ >= 20
#pragma clang diagnostic ignored "-Wfunction-effects"
#endif

namespace pagetrap::sys {

std::string_view executable(std::span<char> room) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  const long got = ::syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", room.data(), room.size());
  return got <= 0 ? std::string_view() : std::string_view(room.data(), static_cast<size_t>(got));
}

long read_file(const char* path, std::span<char> room) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  const long file = ::syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -errno;
  std::size_t size = 0;
  while (size < room.size()) {
    const long got = ::syscall(SYS_read, file, room.data() + size, room.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    size += static_cast<std::size_t>(got);
  }
  ::syscall(SYS_close, file);
  return static_cast<long>(size);
}

std::string_view name_of_thread(pid_t thread, std::span<char> room) noexcept PAGETRAP_SIGNAL_SAFE {
  if (thread == thread_id()) {  // without /proc, and as the kernel keeps it
    std::array<char, 16> name{};
    static_cast<void>(raw_syscall6(SYS_prctl, PR_GET_NAME,
                                   reinterpret_cast<unsigned long>(name.data()), 0, 0, 0, 0));
    const std::size_t size = std::min(::strnlen(name.data(), name.size()), room.size());
    std::memcpy(room.data(), name.data(), size);
    return {room.data(), size};
  }
  SignalSafeText path;
  path.text("/proc/self/task/").decimal(thread).text("/comm").text(std::string_view("\0", 1));
  const long got = read_file(path.view().data(), room);
  if (got <= 0) return {};
  const auto size = static_cast<std::size_t>(got);
  return {room.data(), room[size - 1] == '\n' ? size - 1 : size};
}

int open_for_append(const char* path) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  const long file =
      ::syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  return file < 0 ? -errno : static_cast<int>(file);
}

}  // namespace pagetrap::sys
