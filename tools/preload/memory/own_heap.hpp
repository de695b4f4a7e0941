// Heaps that are never paged: the engine's own, and one for what the C library allocates for itself
// (FILE and DIR buffers, thread tables), since its internal system calls and its fork() use those
// where no page may be missing.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace pagetrap::preload {

/// Size classes, four to a doubling; freed blocks serve their own class.
/// Threads  any. Works before constructors have run.
class OwnHeap {
 public:
  /// Aligned to `alignment`, a power of two, at least 16. Null: no memory.
  void* get(std::size_t size, std::size_t alignment = 16) noexcept;
  void give_back(void* block) noexcept;
  [[nodiscard]] bool owns(const void* block) const noexcept {
    return reinterpret_cast<std::uintptr_t>(block) - base_.load(std::memory_order_relaxed) <
           size_.load(std::memory_order_relaxed);
  }
  /// Bytes of a block from its address on.
  static std::size_t usable(const void* block) noexcept;

  /// Around fork(), and for whoever stops all threads: nobody else is inside.
  void lock() noexcept;
  void unlock() noexcept { locked_.store(false, std::memory_order_release); }

 private:
  struct Header {
    std::uint32_t size_class;
    std::uint32_t offset;  // from the start of the block, which is of its class's size
    std::uint64_t unused;
  };
  static_assert(sizeof(Header) == 16);
  struct Free {
    Free* next;
  };
  static constexpr std::size_t kClasses = 160;
  bool reserve() noexcept;
  static std::size_t class_of(std::size_t size) noexcept;
  static std::size_t size_of(std::size_t size_class) noexcept;
  static Header* header_of(const void* block) noexcept {
    return reinterpret_cast<Header*>(reinterpret_cast<std::uintptr_t>(block) - sizeof(Header));
  }

  std::atomic<bool> locked_{false};
  std::atomic<std::uintptr_t> base_{0};
  std::atomic<std::size_t> size_{0};
  std::size_t used_ = 0;                // GUARDED_BY(locked_)
  std::array<Free*, kClasses> free_{};  // GUARDED_BY(locked_)
};

extern constinit OwnHeap engine_heap;
extern constinit OwnHeap library_heap;

}  // namespace pagetrap::preload
