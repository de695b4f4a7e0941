// mmap and its kin: large private anonymous mappings are given from the territory.
//
// Not enforced there: PROT_NONE (guards within such a mapping do not guard). Rights without
// writing, or with execution, are, and their pages stay in memory.
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstring>

#include "common/exported.hpp"
#include "memory/buffers.hpp"
#include "memory/keeper.hpp"
#include "sys/memory_calls.hpp"

namespace pagetrap::preload {
namespace {

constexpr std::size_t kLeast = 256_KiB;
constexpr std::size_t kMostReserved = 128_MiB;  // without access: larger ones are address space
constexpr int kReadWrite = PROT_READ | PROT_WRITE;

bool is_ours(const void* address, std::size_t length) noexcept {
  return keeper != nullptr && !own_work && keeper->territory.touches(address, length);
}

PageRange pages_of(void* address, std::size_t length) noexcept {
  return {static_cast<std::byte*>(address), pages_for(length)};
}

bool is_plain_memory(int prot, int flags) noexcept {
  constexpr int kOthers =
      MAP_SHARED | MAP_STACK | MAP_GROWSDOWN | MAP_HUGETLB | MAP_LOCKED | MAP_32BIT;
  return (flags & MAP_PRIVATE) != 0 && (flags & MAP_ANONYMOUS) != 0 && (flags & kOthers) == 0 &&
         (prot == kReadWrite || prot == PROT_NONE);
}

int failed(int error) noexcept {
  errno = error;
  return -1;
}

/// Replaces what is there. Null: an ordinary mapping may.
void* map_over(PageRange wanted, int prot, int flags) noexcept {
  static_cast<void>(keeper->lift_restrictions(wanted));
  if (const int error = keeper->drop(wanted)) {
    errno = error;
    return MAP_FAILED;
  }
  keeper->territory.claim(wanted);
  return is_plain_memory(prot, flags) ? wanted.base : nullptr;
}

void* map(void* address, std::size_t length, int prot, int flags, int file, off_t offset) noexcept {
  constexpr int kExactly = MAP_FIXED | MAP_FIXED_NOREPLACE;
  if (keeper == nullptr || own_work || length == 0)
    return sys::plain_mmap(address, length, prot, flags, file, offset);
  if ((flags & kExactly) != 0) {
    const bool replaces = (flags & MAP_FIXED_NOREPLACE) == 0;
    if (replaces && keeper->territory.touches(address, length)) {
      if (void* const done = map_over(pages_of(address, length), prot, flags)) return done;
    }
    return sys::plain_mmap(address, length, prot, flags, file, offset);
  }
  const bool catches = is_plain_memory(prot, flags) && length >= kLeast &&
                       (prot != PROT_NONE || length < kMostReserved);
  if (catches) {
    if (std::byte* const given = keeper->territory.take(length)) {
      keeper->mapped();
      return given;
    }
  }
  return sys::plain_mmap(address, length, prot, flags, file, offset);
}

/// A range that straddles the border is none that we gave, in one piece.
int unmap(void* address, std::size_t length) noexcept {
  if (!is_ours(address, length)) return sys::plain_munmap(address, length);
  if (reinterpret_cast<std::uintptr_t>(address) % page_size() != 0) return failed(EINVAL);
  const PageRange range = pages_of(address, length);
  if (const int error = keeper->lift_restrictions(range)) return failed(error);
  if (const int error = keeper->drop(range)) return failed(error);
  keeper->territory.give_back(range);
  return 0;
}

/// Page by page, so that the old ones can leave; pages of zeroes are not written.
void copy_pages(std::byte* to, std::byte* from, std::size_t length) noexcept {
  static constexpr std::size_t kStep = 256_KiB;
  for (std::size_t at = 0; at < length; at += kStep) {
    const std::size_t end = std::min(length, at + kStep);
    for (std::size_t page = at; page < end; page += page_size()) {
      const std::byte* const source = from + page;
      const bool zero =
          source[0] == std::byte{} && std::memcmp(source, source + 1, page_size() - 1) == 0;
      if (!zero) std::memcpy(to + page, source, page_size());
    }
    // What cannot be dropped now is dropped with the whole.
    static_cast<void>(keeper->drop({from + at, pages_for(end - at)}));
  }
}

void* remap(void* address, std::size_t old_length, std::size_t length, int flags,
            void* where) noexcept {
  const bool fixed = (flags & MREMAP_FIXED) != 0;
  if (!is_ours(address, std::max<std::size_t>(old_length, 1))) {
    if (fixed && is_ours(where, length)) {
      const PageRange target = pages_of(where, length);
      if (map_over(target, PROT_EXEC, 0) == MAP_FAILED) return MAP_FAILED;
    }
    return sys::plain_mremap(address, old_length, length, flags, where);
  }
  const PageRange from = pages_of(address, old_length);
  const std::size_t wanted = bytes(pages_for(length));
  if (reinterpret_cast<std::uintptr_t>(address) % page_size() != 0 || wanted == 0 || from.empty()) {
    errno = EINVAL;
    return MAP_FAILED;
  }
  if (!fixed && (flags & MREMAP_DONTUNMAP) == 0) {
    if (wanted <= from.size_bytes()) {
      if (wanted < from.size_bytes() && unmap(from.base + wanted, from.size_bytes() - wanted) != 0)
        return MAP_FAILED;
      return address;
    }
    if (keeper->territory.take_at({from.end(), pages_for(wanted - from.size_bytes())})) {
      keeper->mapped();
      return address;
    }
    if ((flags & MREMAP_MAYMOVE) == 0) {
      errno = ENOMEM;
      return MAP_FAILED;
    }
  }
  void* const to = map(fixed ? where : nullptr, wanted, kReadWrite,
                       MAP_PRIVATE | MAP_ANONYMOUS | (fixed ? MAP_FIXED : 0), -1, 0);
  if (to == MAP_FAILED) return MAP_FAILED;
  copy_pages(static_cast<std::byte*>(to), from.base, std::min(wanted, from.size_bytes()));
  if ((flags & MREMAP_DONTUNMAP) == 0 && unmap(address, old_length) != 0) return MAP_FAILED;
  return to;
}

int advise(void* address, std::size_t length, int advice) noexcept {
  if (length == 0 || !is_ours(address, length)) return sys::plain_madvise(address, length, advice);
  if (reinterpret_cast<std::uintptr_t>(address) % page_size() != 0) return failed(EINVAL);
  const PageRange range = pages_of(address, length);
  switch (advice) {
    case MADV_DONTNEED:
    case MADV_FREE:  // allowed to happen at once
      if (const int error = keeper->drop(range)) return failed(error);
      return 0;
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_DONTFORK:  // a child has more than was asked for, and holes it could not arm
    case MADV_DOFORK:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
      return 0;
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
      touch(range);
      return 0;
    case MADV_WIPEONFORK:
      return failed(EINVAL);  // as kernels say that do not know it
    default:
      return sys::plain_madvise(address, length, advice);
  }
}

int protect(void* address, std::size_t length, int prot) noexcept {
  if (length == 0 || !is_ours(address, length)) return sys::plain_mprotect(address, length, prot);
  if (reinterpret_cast<std::uintptr_t>(address) % page_size() != 0) return failed(EINVAL);
  const PageRange range = pages_of(address, length);
  if (const int error = keeper->lift_restrictions(range)) return failed(error);
  if (prot == kReadWrite || prot == PROT_NONE) return 0;
  if (const int error = keeper->restrict_to(range, prot)) return failed(error);
  return 0;
}

}  // namespace
}  // namespace pagetrap::preload

using pagetrap::preload::keeper;

PAGETRAP_EXPORT void* mmap(void* address, size_t length, int prot, int flags, int file,
                           off_t offset) noexcept {
  return pagetrap::preload::map(address, length, prot, flags, file, offset);
}
PAGETRAP_EXPORT void* mmap64(void* address, size_t length, int prot, int flags, int file,
                             off64_t offset) noexcept {
  return pagetrap::preload::map(address, length, prot, flags, file, offset);
}
PAGETRAP_EXPORT int munmap(void* address, size_t length) noexcept {
  return pagetrap::preload::unmap(address, length);
}
PAGETRAP_EXPORT void* mremap(void* address, size_t old_length, size_t length, int flags,
                             ...) noexcept {
  va_list rest;
  va_start(rest, flags);
  void* const where = va_arg(rest, void*);
  va_end(rest);
  return pagetrap::preload::remap(address, old_length, length, flags, where);
}
PAGETRAP_EXPORT int madvise(void* address, size_t length, int advice) noexcept {
  return pagetrap::preload::advise(address, length, advice);
}
PAGETRAP_EXPORT int mprotect(void* address, size_t length, int prot) noexcept {
  return pagetrap::preload::protect(address, length, prot);
}
// As beyond RLIMIT_MEMLOCK. Locked pages can be neither moved out nor dropped, and a batch of
// victims with one of them in it would be dropped in part.
PAGETRAP_EXPORT int mlock(const void* address, size_t length) noexcept {
  if (!pagetrap::preload::is_ours(address, length))
    return pagetrap::sys::plain_mlock(address, length);
  errno = ENOMEM;
  return -1;
}
// It would fill the whole territory.
PAGETRAP_EXPORT int mlockall(int flags) noexcept {
  if (keeper == nullptr) return pagetrap::sys::plain_mlockall(flags);
  errno = EPERM;
  return -1;
}
