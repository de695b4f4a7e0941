// The process's one guard heap, made by the first allocation, whoever asks for it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <pagetrap/guard/heap.hpp>

namespace pagetrap::preload {

/// Null: it cannot be had, and the program runs on its own malloc; or it is being made, by this
/// thread.
guard::Engine* heap() noexcept;
/// What other files look at without making it.
extern constinit std::atomic<guard::Engine*> the_heap;
bool checks_families() noexcept;

/// For allocations inside of making the heap, or of looking up the program's own malloc.
void* first_memory(std::size_t alignment, std::size_t size) noexcept;
inline constexpr std::size_t kFirstMemory = 64 * 1024;
extern constinit std::array<std::byte, kFirstMemory> first_bytes;
inline bool is_first_memory(const void* block) noexcept {
  return reinterpret_cast<std::uintptr_t>(block) -
             reinterpret_cast<std::uintptr_t>(first_bytes.data()) <
         first_bytes.size();
}
std::size_t first_memory_size(const void* block) noexcept;

/// The program's own functions: the next definitions after ours.
namespace own {
void* allocate(std::size_t alignment, std::size_t size) noexcept;
void* malloc(std::size_t size) noexcept;
void* calloc(std::size_t count, std::size_t size) noexcept;
void* realloc(void* block, std::size_t size) noexcept;
void release(void* block) noexcept;
std::size_t usable_size(void* block) noexcept;
}  // namespace own

/// Sampling: whether this allocation goes to the program's own malloc. Costs a decrement.
extern constinit bool sampling;
extern constinit thread_local std::uint32_t until_sampled;
bool is_sample() noexcept;
inline bool passes_by() noexcept {
  if (!sampling) return false;
  if (until_sampled > 1) {
    until_sampled -= 1;
    return true;
  }
  return !is_sample();
}
/// Sampling: addresses of blocks that are guarded. Beginning and size.
extern constinit std::uintptr_t guarded_begin;
extern constinit std::size_t guarded_size;
/// Whether `block` is the program's own malloc's, told without asking the heap.
inline bool passed_by(const void* block) noexcept {
  return sampling && reinterpret_cast<std::uintptr_t>(block) - guarded_begin >= guarded_size &&
         !is_first_memory(block);
}

}  // namespace pagetrap::preload
