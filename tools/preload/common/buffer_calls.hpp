// What the list of calls (buffer_calls.inc) speaks of.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/msg.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <cstddef>

namespace pagetrap::preload {

/// What the kernel reads of a set of signals; the C library's is longer.
inline constexpr std::size_t kSignalSetBytes = 8;

/// Of a set of files, the words in which those before `count` have bits: programs make sets of any
/// length.
constexpr std::size_t bytes_of_files(int count) noexcept {
  constexpr int kBits = sizeof(long) * CHAR_BIT;
  return count <= 0 ? 0 : static_cast<std::size_t>((count + kBits - 1) / kBits) * sizeof(long);
}

/// The last argument of open(2), where there is one.
inline mode_t mode_of(int flags, va_list rest) noexcept {
  const bool has_mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  return has_mode ? va_arg(rest, mode_t) : 0;
}

}  // namespace pagetrap::preload
