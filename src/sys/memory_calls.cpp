#include "sys/memory_calls.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace pagetrap::sys {

void* plain_mmap(void* address, std::size_t length, int prot, int flags, int descriptor,
                 off_t offset) noexcept {
  return reinterpret_cast<void*>(
      ::syscall(SYS_mmap, address, length, prot, flags, descriptor, offset));
}

int plain_munmap(void* address, std::size_t length) noexcept {
  return static_cast<int>(::syscall(SYS_munmap, address, length));
}

void* plain_mremap(void* address, std::size_t from, std::size_t to, int flags,
                   void* where) noexcept {
  return reinterpret_cast<void*>(::syscall(SYS_mremap, address, from, to, flags, where));
}

int plain_madvise(void* address, std::size_t length, int advice) noexcept {
  return static_cast<int>(::syscall(SYS_madvise, address, length, advice));
}

int plain_mprotect(void* address, std::size_t length, int prot) noexcept {
  return static_cast<int>(::syscall(SYS_mprotect, address, length, prot));
}

int plain_mlock(const void* address, std::size_t length) noexcept {
  return static_cast<int>(::syscall(SYS_mlock, address, length));
}

int plain_mlockall(int flags) noexcept { return static_cast<int>(::syscall(SYS_mlockall, flags)); }

// "size resident shared ...", in pages.
std::size_t resident_pages() noexcept {
  const int saved = errno;
  std::array<char, 128> text{};
  const long file = ::syscall(SYS_openat, AT_FDCWD, "/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    errno = saved;
    return 0;
  }
  const long got = ::syscall(SYS_read, file, text.data(), text.size() - 1);
  ::syscall(SYS_close, file);
  errno = saved;
  std::size_t pages = 0;
  long at = 0;
  while (at < got && text[static_cast<std::size_t>(at)] != ' ') ++at;
  for (++at; at < got; ++at) {
    const char digit = text[static_cast<std::size_t>(at)];
    if (digit < '0' || digit > '9') break;
    pages = pages * 10 + static_cast<std::size_t>(digit - '0');
  }
  return pages;
}

}  // namespace pagetrap::sys
