// malloc and its kin, with the C library's semantics.
#include <malloc.h>
#include <stdlib.h>

#include <cerrno>
#include <cstring>

#include <pagetrap/core/units.hpp>

#include "common/exported.hpp"
#include "guard/heap.hpp"

using namespace pagetrap::preload;
namespace engine = pagetrap::guard::engine;
using pagetrap::guard::Engine;
using pagetrap::guard::Family;

namespace {

void* allocate(std::size_t size, std::size_t alignment, const void* frame) noexcept {
  if (passes_by()) return alignment <= 16 ? own::malloc(size) : own::allocate(alignment, size);
  Engine* const guards = heap();
  void* block = nullptr;
  if (guards == nullptr) {
    block = own::allocate(alignment, size);
  } else {
    block = engine::allocate(*guards, size, alignment, Family::malloc, frame);
  }
  if (block == nullptr) errno = ENOMEM;
  return block;
}

void release(void* block, const void* frame) noexcept {
  if (block == nullptr) return;
  if (passed_by(block)) return own::release(block);
  Engine* const guards = heap();
  const int saved = errno;  // as glibc since 2.33
  if (is_first_memory(block)) return;
  if (guards == nullptr || (sampling && !engine::owns(*guards, block))) {
    own::release(block);
  } else {
    engine::release(*guards, block, Family::malloc, engine::kUnknownSize, frame);
  }
  errno = saved;
}

void* resize(void* block, std::size_t size, const void* frame) noexcept {
  if (passed_by(block) && block != nullptr) return own::realloc(block, size);
  Engine* const guards = heap();
  if (block == nullptr) return allocate(size, 1, frame);
  if (guards == nullptr || is_first_memory(block) || (sampling && !engine::owns(*guards, block)))
    return own::realloc(block, size);
  return engine::reallocate(*guards, block, size, frame);
}

bool is_power_of_two(std::size_t number) noexcept {
  return number != 0 && (number & (number - 1)) == 0;
}

// memalign(3) takes any number, and rounds it up.
std::size_t next_power_of_two(std::size_t number) noexcept {
  std::size_t power = 16;
  while (power < number && power != 0) power *= 2;
  return power;
}

}  // namespace

PAGETRAP_EXPORT void* malloc(size_t size) noexcept {
  return allocate(size, 1, __builtin_frame_address(0));
}
PAGETRAP_EXPORT void* calloc(size_t count, size_t size) noexcept {
  size_t whole = 0;
  if (__builtin_mul_overflow(count, size, &whole)) {
    errno = ENOMEM;
    return nullptr;
  }
  if (passes_by()) return own::calloc(count, size);
  Engine* const guards = heap();
  if (guards == nullptr) return own::calloc(count, size);
  void* const block = engine::allocate_zeroed(*guards, whole, __builtin_frame_address(0));
  if (block == nullptr) errno = ENOMEM;
  return block;
}
PAGETRAP_EXPORT void free(void* block) noexcept { release(block, __builtin_frame_address(0)); }
PAGETRAP_EXPORT void cfree(void* block) noexcept { release(block, __builtin_frame_address(0)); }
PAGETRAP_EXPORT void* realloc(void* block, size_t size) noexcept {
  return resize(block, size, __builtin_frame_address(0));
}
PAGETRAP_EXPORT void* reallocarray(void* block, size_t count, size_t size) noexcept {
  size_t whole = 0;
  if (__builtin_mul_overflow(count, size, &whole)) {
    errno = ENOMEM;
    return nullptr;
  }
  return resize(block, whole, __builtin_frame_address(0));
}
PAGETRAP_EXPORT void* memalign(size_t alignment, size_t size) noexcept {
  if (alignment > SIZE_MAX / 2 + 1) {
    errno = EINVAL;
    return nullptr;
  }
  return allocate(size, next_power_of_two(alignment), __builtin_frame_address(0));
}
PAGETRAP_EXPORT void* aligned_alloc(size_t alignment, size_t size) noexcept {
  // glibc before 2.38: as memalign.
  if (alignment > SIZE_MAX / 2 + 1) {
    errno = EINVAL;
    return nullptr;
  }
  return allocate(size, next_power_of_two(alignment), __builtin_frame_address(0));
}
PAGETRAP_EXPORT int posix_memalign(void** block, size_t alignment, size_t size) noexcept {
  if (!is_power_of_two(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
  const int saved = errno;
  void* const made = allocate(size, alignment, __builtin_frame_address(0));
  errno = saved;
  if (made == nullptr) return ENOMEM;
  *block = made;
  return 0;
}
PAGETRAP_EXPORT void* valloc(size_t size) noexcept {
  return allocate(size, pagetrap::page_size(), __builtin_frame_address(0));
}
PAGETRAP_EXPORT void* pvalloc(size_t size) noexcept {
  const size_t page = pagetrap::page_size();
  if (size > SIZE_MAX - page) {
    errno = ENOMEM;
    return nullptr;
  }
  return allocate((size + page - 1) & ~(page - 1), page, __builtin_frame_address(0));
}
PAGETRAP_EXPORT size_t malloc_usable_size(void* block) noexcept {
  if (block == nullptr) return 0;
  Engine* const guards = heap();
  if (is_first_memory(block)) return first_memory_size(block);
  if (guards == nullptr || (sampling && !engine::owns(*guards, block)))
    return own::usable_size(block);
  return engine::usable_size(*guards, block);
}
