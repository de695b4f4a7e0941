#include "sys/tasks.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "sys/fd.hpp"

namespace pagetrap::sys {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

Result<std::vector<pid_t>> read_task_directory() {
  const std::unique_ptr<DIR, CloseDirectory> directory(::opendir("/proc/self/task"));
  if (directory == nullptr)
    return Error{"opendir /proc/self/task", errno, {}, "/proc must be mounted"};
  std::vector<pid_t> threads;
  while (const dirent* entry = ::readdir(directory.get())) {
    if (entry->d_name[0] != '.') threads.push_back(static_cast<pid_t>(std::atoi(entry->d_name)));
  }
  return threads;
}

// Field 20 of /proc/self/stat, counted after the parenthesis that ends the command's name.
Result<std::size_t> count_threads() {
  const Descriptor file(::open("/proc/self/stat", O_RDONLY | O_CLOEXEC));
  std::array<char, 1024> text{};
  if (!file.valid() || ::read(file.get(), text.data(), text.size() - 1) <= 0)
    return Error{"read /proc/self/stat", errno, {}, "/proc must be mounted"};
  const char* field = std::strrchr(text.data(), ')');
  for (int skip = 0; field != nullptr && skip < 18; ++skip) field = std::strchr(field + 1, ' ');
  if (field == nullptr) return Error{"parse of /proc/self/stat", EPROTO};
  return static_cast<std::size_t>(std::strtoul(field, nullptr, 10));
}

}  // namespace

Result<std::vector<pid_t>> list_threads() {
  for (;;) {
    auto threads = read_task_directory();
    if (!threads) return threads;
    const auto count = count_threads();
    if (!count) return count.error();
    if (threads->size() >= *count) return threads;
  }
}

bool thread_is_gone(pid_t thread) noexcept {
  std::array<char, 64> path{};
  std::snprintf(path.data(), path.size(), "/proc/self/task/%d/stat", thread);
  const Descriptor file(::open(path.data(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return errno == ENOENT;
  std::array<char, 512> text{};
  if (::read(file.get(), text.data(), text.size() - 1) <= 0) return errno == ESRCH;
  const char* name_end = std::strrchr(text.data(), ')');
  if (name_end == nullptr || name_end[1] == '\0') return false;
  const char state = name_end[2];
  return state == 'Z' || state == 'X';
}

}  // namespace pagetrap::sys
