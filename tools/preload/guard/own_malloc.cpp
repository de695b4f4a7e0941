// The program's own malloc. Looking it up may allocate, in this thread, before it is known.
#include <cerrno>
#include <cstring>

#include "common/real.hpp"
#include "guard/heap.hpp"

namespace pagetrap::preload::own {
namespace {

constinit Real<void*(std::size_t)> next_malloc("malloc");
constinit Real<void*(std::size_t, std::size_t)> next_calloc("calloc");
constinit Real<void*(void*, std::size_t)> next_realloc("realloc");
constinit Real<void(void*)> next_free("free");
constinit Real<int(void**, std::size_t, std::size_t)> next_posix_memalign("posix_memalign");
constinit Real<std::size_t(void*)> next_usable_size("malloc_usable_size");

constinit thread_local bool looking = false;

template <class Function, class Work, class Else>
auto with(Function& function, Work work, Else otherwise) noexcept {
  if (function.known() != nullptr) [[likely]]
    return work();
  if (looking) return otherwise();
  looking = true;
  const bool found = function.find() != nullptr;
  looking = false;
  return found ? work() : otherwise();
}

}  // namespace

void* malloc(std::size_t size) noexcept {
  return with(
      next_malloc, [&] { return next_malloc(size); }, [&] { return first_memory(16, size); });
}

void* calloc(std::size_t count, std::size_t size) noexcept {
  return with(
      next_calloc, [&] { return next_calloc(count, size); },
      [&] { return first_memory(16, count * size); });  // zeroes: it is used once
}

void* allocate(std::size_t alignment, std::size_t size) noexcept {
  if (alignment <= 16) return own::malloc(size);
  return with(
      next_posix_memalign,
      [&]() -> void* {
        void* block = nullptr;
        const int error = next_posix_memalign(&block, alignment, size);
        if (error != 0) errno = error;
        return error == 0 ? block : nullptr;
      },
      [&] { return first_memory(alignment, size); });
}

void release(void* block) noexcept {
  if (is_first_memory(block)) return;
  with(
      next_free, [&] { next_free(block); }, [] {});
}

std::size_t usable_size(void* block) noexcept {
  if (is_first_memory(block)) return first_memory_size(block);
  return with(
      next_usable_size, [&] { return next_usable_size(block); }, [] { return std::size_t{0}; });
}

void* realloc(void* block, std::size_t size) noexcept {
  if (!is_first_memory(block))
    return with(
        next_realloc, [&] { return next_realloc(block, size); }, []() -> void* { return nullptr; });
  void* const moved = own::malloc(size);
  const std::size_t old = first_memory_size(block);
  if (moved != nullptr) std::memcpy(moved, block, old < size ? old : size);
  return moved;
}

}  // namespace pagetrap::preload::own
