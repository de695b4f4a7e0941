#include "sys/tasks.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace pagetrap::sys {

Result<ThreadWalk> ThreadWalk::begin() {
  Descriptor directory(::open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return Error{"open /proc/self/task", errno, {}, "/proc must be mounted"};
  return ThreadWalk(std::move(directory));
}

// By the bare system call: readdir(3) would allocate its buffer.
pid_t ThreadWalk::next() noexcept {
  for (;;) {
    if (next_ == filled_) {
      const long got =
          ::syscall(SYS_getdents64, directory_.get(), entries_.data(), entries_.size());
      if (got <= 0) {
        error_ = got < 0 ? errno : 0;
        return 0;
      }
      filled_ = static_cast<std::size_t>(got);
      next_ = 0;
    }
    const std::byte* const entry = entries_.data() + next_;
    std::uint16_t length = 0;
    std::memcpy(&length, entry + offsetof(dirent64, d_reclen), sizeof length);
    next_ += length;
    const auto* const name = reinterpret_cast<const char*>(entry + offsetof(dirent64, d_name));
    if (name[0] != '.') return static_cast<pid_t>(std::strtol(name, nullptr, 10));
  }
}

bool thread_is_listed(pid_t thread) noexcept {
  return ::syscall(SYS_tgkill, ::getpid(), thread, 0) == 0 || errno != ESRCH;
}

bool thread_takes_no_signals(pid_t thread) noexcept {
  std::array<char, 64> path{};
  std::snprintf(path.data(), path.size(), "/proc/self/task/%d/stat", thread);
  const Descriptor file(::open(path.data(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return errno == ENOENT;
  std::array<char, 512> text{};
  if (::read(file.get(), text.data(), text.size() - 1) <= 0) return errno == ESRCH;
  // SOURCE proc_pid_stat(5): "(name) state ppid pgrp session tty_nr tpgid flags"; the name may hold
  // anything, so count from the last parenthesis. include/linux/sched.h: PF_IO_WORKER,
  // PF_USER_WORKER (6.4).
  constexpr unsigned long kKernelWorker = 0x10 | 0x4000;
  const char* const name_end = std::strrchr(text.data(), ')');
  if (name_end == nullptr) return false;
  char state = '?';
  unsigned long flags = 0;
  if (std::sscanf(name_end + 1, " %c %*d %*d %*d %*d %*d %lu", &state, &flags) != 2) return false;
  return state == 'Z' || state == 'X' || (flags & kKernelWorker) != 0;
}

Result<std::vector<pid_t>> list_threads() {
  for (;;) {
    auto walk = ThreadWalk::begin();
    if (!walk) return walk.error();
    std::vector<pid_t> threads;
    while (const pid_t thread = walk->next()) threads.push_back(thread);
    if (walk->failed() != 0) return Error{"getdents64 of /proc/self/task", walk->failed()};
    if (std::all_of(threads.begin(), threads.end(), thread_is_listed)) return threads;
  }
}

}  // namespace pagetrap::sys
