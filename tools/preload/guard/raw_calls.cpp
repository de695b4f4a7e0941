// System calls that name no function: syscall(2) by number, ioctl(2) by what its request says.
#include <linux/fs.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstdint>

#include "common/exported.hpp"
#include "common/own_code.hpp"
#include "common/real.hpp"
#include "guard/buffers.hpp"
#include "sys/raw_syscall.hpp"

using namespace pagetrap::preload;

namespace {

enum class Kind : std::uint8_t { none, reads, writes, text, parts_read, parts_written };

/// Which argument is a buffer, and which says how long it is (of parts: how many there are).
struct Argument {
  Kind kind = Kind::none;
  std::uint8_t base = 0;
  std::uint8_t size = 0;
};
struct KnownCall {
  long number;
  const char* name;
  Argument arguments[2];
};

constexpr KnownCall kKnown[] = {
    {SYS_read, "syscall: read", {{Kind::writes, 1, 2}}},
    {SYS_write, "syscall: write", {{Kind::reads, 1, 2}}},
    {SYS_pread64, "syscall: pread64", {{Kind::writes, 1, 2}}},
    {SYS_pwrite64, "syscall: pwrite64", {{Kind::reads, 1, 2}}},
    {SYS_readv, "syscall: readv", {{Kind::parts_written, 1, 2}}},
    {SYS_writev, "syscall: writev", {{Kind::parts_read, 1, 2}}},
    {SYS_preadv, "syscall: preadv", {{Kind::parts_written, 1, 2}}},
    {SYS_pwritev, "syscall: pwritev", {{Kind::parts_read, 1, 2}}},
    {SYS_recvfrom, "syscall: recvfrom", {{Kind::writes, 1, 2}}},
    {SYS_sendto, "syscall: sendto", {{Kind::reads, 1, 2}}},
    {SYS_getrandom, "syscall: getrandom", {{Kind::writes, 0, 1}}},
    {SYS_getdents64, "syscall: getdents64", {{Kind::writes, 1, 2}}},
    {SYS_getcwd, "syscall: getcwd", {{Kind::writes, 0, 1}}},
    {SYS_readlinkat, "syscall: readlinkat", {{Kind::text, 1, 0}, {Kind::writes, 2, 3}}},
    {SYS_openat, "syscall: openat", {{Kind::text, 1, 0}}},
    {SYS_renameat2, "syscall: renameat2", {{Kind::text, 1, 0}, {Kind::text, 3, 0}}},
    {SYS_statx, "syscall: statx", {{Kind::text, 1, 0}}},
    {SYS_memfd_create, "syscall: memfd_create", {{Kind::text, 0, 0}}},
    {SYS_sched_getaffinity, "syscall: sched_getaffinity", {{Kind::writes, 2, 1}}},
};

void check_argument(const Argument& argument, const unsigned long (&words)[6], const char* name,
                    const void* frame) noexcept {
  const auto* const base = reinterpret_cast<const void*>(words[argument.base]);
  const std::size_t size = words[argument.size];
  switch (argument.kind) {
    case Kind::none:
      return;
    case Kind::reads:
      return check({reads(base, size)}, name, frame);
    case Kind::writes:
      return check({writes(base, size)}, name, frame);
    case Kind::text:
      return check({text(static_cast<const char*>(base))}, name, frame);
    case Kind::parts_read:
    case Kind::parts_written:
      return check_parts(static_cast<const iovec*>(base), size,
                         argument.kind == Kind::parts_written, name, frame);
  }
}

// These say long, and the kernel reads or writes an int.
constexpr bool says_too_much(unsigned long request) noexcept {
  return request == FS_IOC_GETFLAGS || request == FS_IOC_SETFLAGS || request == FS_IOC_GETVERSION ||
         request == FS_IOC_SETVERSION || request == BLKBSZGET || request == BLKBSZSET;
}

constinit Real<int(int, unsigned long, ...)> real_ioctl("ioctl");

}  // namespace

PAGETRAP_EXPORT long syscall(long number, ...) noexcept {
  va_list rest;
  va_start(rest, number);
  unsigned long words[6];
  for (unsigned long& word : words) word = va_arg(rest, unsigned long);
  va_end(rest);
  if (!is_own_code(__builtin_return_address(0)))
    for (const KnownCall& known : kKnown)
      if (known.number == number)
        for (const Argument& argument : known.arguments)
          check_argument(argument, words, known.name, PAGETRAP_HERE);
  const long result = pagetrap::sys::raw_syscall6(number, words[0], words[1], words[2], words[3],
                                                  words[4], words[5]);
  if (result >= 0 || result <= -4096) return result;
  errno = static_cast<int>(-result);
  return -1;
}

// Only requests that tell it themselves; the older ones are numbers without a meaning.
PAGETRAP_EXPORT int ioctl(int file, unsigned long request, ...) noexcept {
  va_list rest;
  va_start(rest, request);
  void* const argument = va_arg(rest, void*);
  va_end(rest);
  const unsigned long direction = _IOC_DIR(request);
  if (direction != _IOC_NONE && !says_too_much(request) &&
      !is_own_code(__builtin_return_address(0))) {
    const bool write = (direction & _IOC_READ) != 0;  // from the device's side
    check({{argument, _IOC_SIZE(request), write}}, "ioctl", PAGETRAP_HERE);
  }
  return real_ioctl(file, request, argument);
}
