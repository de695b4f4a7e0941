#include "checkpoint/sinks/temporary.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string_view>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

namespace {

constexpr std::string_view kEnding = ".tmp";
constexpr std::size_t kRandomDigits = 16;
constexpr std::size_t kLongestName = 200;  // of 255, with what we add

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hexadecimal(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

/// Whether `name` is as make_temporary() makes them, to the letter: others are not ours to remove.
bool is_ours(std::string_view name) {
  if (name.size() < 2 || name.front() != '.' || !name.ends_with(kEnding)) return false;
  name.remove_suffix(kEnding.size());
  const std::size_t dash = name.rfind('-');
  if (dash == std::string_view::npos || name.size() - dash - 1 != kRandomDigits) return false;
  const std::string_view random = name.substr(dash + 1);
  const std::size_t dot = name.rfind('.', dash);
  if (dot == std::string_view::npos || dot < 2) return false;
  const std::string_view process = name.substr(dot + 1, dash - dot - 1);
  return !process.empty() && std::all_of(process.begin(), process.end(), is_digit) &&
         std::all_of(random.begin(), random.end(), is_hexadecimal);
}

std::string new_name(const std::string& name) {
  std::uint64_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random) {
    random = reinterpret_cast<std::uintptr_t>(&random);  // O_EXCL finds what is taken
  }
  std::array<char, 64> ending{};
  std::snprintf(ending.data(), ending.size(), ".%d-%016llx", static_cast<int>(::getpid()),
                static_cast<unsigned long long>(random));
  return "." + name.substr(0, kLongestName) + ending.data() + std::string(kEnding);
}

/// Whether `name` is still the file that `descriptor` has open.
bool is_same(int directory, const char* name, int descriptor) {
  struct stat open_one {};
  struct stat named {};
  return ::fstat(descriptor, &open_one) == 0 &&
         ::fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino;
}

void remove_if_dead(int directory, const char* name) {
  const sys::Descriptor file(
      ::openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY));
  if (!file.valid() || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return;
  struct stat status {};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return;
  if (is_same(directory, name, file.get())) ::unlinkat(directory, name, 0);
}

}  // namespace

Result<Temporary> make_temporary(int directory, const std::string& name) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    Temporary temporary;
    temporary.name = new_name(name);
    temporary.file = sys::Descriptor(
        ::openat(directory, temporary.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!temporary.file.valid()) {
      if (errno == EEXIST) continue;
      return Error{"open of a temporary file beside the checkpoint", errno};
    }
    // RACE: before the lock is ours, another process may take the file for a dead one's and remove
    // it. Then we hold a file without a name, and try again. A file system without locks (ENOLCK,
    // ENOSYS) has nobody who removes anything either.
    while (::flock(temporary.file.get(), LOCK_EX) != 0 && errno == EINTR) {
    }
    if (is_same(directory, temporary.name.c_str(), temporary.file.get())) return temporary;
  }
  return Error{"open of a temporary file beside the checkpoint", EEXIST};
}

void remove_dead_temporaries(int directory) noexcept {
  // A descriptor of its own: it has the position in the directory.
  const int again = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (again < 0) return;
  DIR* const entries = ::fdopendir(again);
  if (entries == nullptr) {
    ::close(again);
    return;
  }
  while (const dirent* const entry = ::readdir(entries)) {
    if (is_ours(entry->d_name)) remove_if_dead(directory, entry->d_name);
  }
  ::closedir(entries);
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
