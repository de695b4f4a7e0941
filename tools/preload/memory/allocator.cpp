// malloc and its kin: mimalloc's, whose memory comes from our mmap; and a heap of our own for what
// the C library and our threads allocate.
#include <elf.h>
#include <link.h>
#include <mimalloc.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "common/exported.hpp"
#include "memory/allocator.hpp"
#include "memory/keeper.hpp"
#include "memory/own_heap.hpp"

namespace pagetrap::preload {
namespace {

constexpr std::size_t kMostOfLibrary = 256_KiB;  // larger ones are the program's data

struct Text {
  std::uintptr_t begin = 0;
  std::uintptr_t size = 0;
};
constinit std::array<Text, 2> library_text{};  // libc.so and ld.so
constinit bool know_library = false;

int find_text(dl_phdr_info* object, std::size_t, void* found) {
  const std::string_view name(object->dlpi_name != nullptr ? object->dlpi_name : "");
  const bool wanted = name.find("/libc.so.") != name.npos || name.find("/ld-linux") != name.npos;
  auto& count = *static_cast<std::size_t*>(found);
  if (!wanted || count == library_text.size()) return 0;
  for (ElfW(Half) i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = object->dlpi_phdr[i];
    if (part.p_type != PT_LOAD || (part.p_flags & PF_X) == 0) continue;
    library_text[count++] = {object->dlpi_addr + part.p_vaddr, part.p_memsz};
    return 0;
  }
  return 0;
}

// Before the library is known the loader is at work.
bool for_library(const void* caller, std::size_t size) noexcept {
  if (own_work || !know_library) return true;
  if (size >= kMostOfLibrary) return false;
  const auto at = reinterpret_cast<std::uintptr_t>(caller);
  return at - library_text[0].begin < library_text[0].size ||
         at - library_text[1].begin < library_text[1].size;
}

void* allocate(std::size_t size, std::size_t alignment, const void* caller) noexcept {
  void* block = nullptr;
  if (for_library(caller, size)) {
    block = library_heap.get(size, alignment);
  } else {
    block = alignment <= 16 ? mi_malloc(size) : mi_malloc_aligned(size, alignment);
  }
  if (block == nullptr) errno = ENOMEM;
  return block;
}

void* resize(void* block, std::size_t size, const void* caller) noexcept {
  if (block == nullptr) return allocate(size, 16, caller);
  if (!library_heap.owns(block)) return mi_realloc(block, size);
  if (size == 0) {
    library_heap.give_back(block);
    return nullptr;
  }
  const std::size_t old = OwnHeap::usable(block);
  if (size <= old && size >= old / 2) return block;
  void* const moved = allocate(size, 16, caller);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, block, old < size ? old : size);
  library_heap.give_back(block);
  return moved;
}

bool is_power_of_two(std::size_t number) noexcept {
  return number != 0 && (number & (number - 1)) == 0;
}

}  // namespace

void learn_callers() noexcept {
  std::size_t found = 0;
  ::dl_iterate_phdr(find_text, &found);
  know_library = found != 0;
}

}  // namespace pagetrap::preload

using pagetrap::preload::allocate;
using pagetrap::preload::library_heap;
using pagetrap::preload::OwnHeap;

PAGETRAP_EXPORT void* malloc(size_t size) noexcept {
  return allocate(size, 16, __builtin_return_address(0));
}
PAGETRAP_EXPORT void* calloc(size_t count, size_t size) noexcept {
  size_t whole = 0;
  if (__builtin_mul_overflow(count, size, &whole)) {
    errno = ENOMEM;
    return nullptr;
  }
  const void* const caller = __builtin_return_address(0);
  if (!pagetrap::preload::for_library(caller, whole)) return mi_calloc(count, size);
  void* const block = allocate(whole, 16, caller);
  if (block != nullptr) std::memset(block, 0, whole);
  return block;
}
PAGETRAP_EXPORT void free(void* block) noexcept {
  if (block == nullptr) return;
  if (library_heap.owns(block)) {
    library_heap.give_back(block);
  } else {
    mi_free(block);
  }
}
PAGETRAP_EXPORT void* realloc(void* block, size_t size) noexcept {
  return pagetrap::preload::resize(block, size, __builtin_return_address(0));
}
PAGETRAP_EXPORT void* reallocarray(void* block, size_t count, size_t size) noexcept {
  size_t whole = 0;
  if (__builtin_mul_overflow(count, size, &whole)) {
    errno = ENOMEM;
    return nullptr;
  }
  return pagetrap::preload::resize(block, whole, __builtin_return_address(0));
}
PAGETRAP_EXPORT void* memalign(size_t alignment, size_t size) noexcept {
  if (!pagetrap::preload::is_power_of_two(alignment)) {
    errno = EINVAL;
    return nullptr;
  }
  return allocate(size, alignment < 16 ? 16 : alignment, __builtin_return_address(0));
}
PAGETRAP_EXPORT void* aligned_alloc(size_t alignment, size_t size) noexcept {
  if (!pagetrap::preload::is_power_of_two(alignment)) {
    errno = EINVAL;
    return nullptr;
  }
  return allocate(size, alignment < 16 ? 16 : alignment, __builtin_return_address(0));
}
PAGETRAP_EXPORT int posix_memalign(void** block, size_t alignment, size_t size) noexcept {
  if (!pagetrap::preload::is_power_of_two(alignment) || alignment % sizeof(void*) != 0)
    return EINVAL;
  const int saved = errno;
  void* const made = allocate(size, alignment < 16 ? 16 : alignment, __builtin_return_address(0));
  errno = saved;
  if (made == nullptr) return ENOMEM;
  *block = made;
  return 0;
}
PAGETRAP_EXPORT void* valloc(size_t size) noexcept {
  return allocate(size, pagetrap::page_size(), __builtin_return_address(0));
}
PAGETRAP_EXPORT void* pvalloc(size_t size) noexcept {
  return allocate(pagetrap::bytes(pagetrap::pages_for(size)), pagetrap::page_size(),
                  __builtin_return_address(0));
}
PAGETRAP_EXPORT size_t malloc_usable_size(void* block) noexcept {
  if (block == nullptr) return 0;
  return library_heap.owns(block) ? OwnHeap::usable(block) : mi_usable_size(block);
}
