// ArenaState: the process's side of an arena; everything that must survive is inside its memory.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include <pagetrap/checkpoint/arena.hpp>

#include "checkpoint/territory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

// Size classes: multiples of 16 bytes up to 128, then four to each doubling. All are multiples
// of 16.
inline constexpr unsigned kSmallClasses = 8;
inline constexpr unsigned kClasses = kSmallClasses + 4 * 40;

[[nodiscard]] constexpr unsigned size_class(std::size_t size) noexcept {
  if (size <= 128) return size == 0 ? 0 : static_cast<unsigned>((size + 15) / 16 - 1);
  const auto doubling = static_cast<unsigned>(std::bit_width(size - 1)) - 1;  // 2^d < size
  const std::size_t step = std::size_t{1} << (doubling - 2);
  const std::size_t quarter = (size - (std::size_t{1} << doubling) + step - 1) / step;  // 1 to 4
  return kSmallClasses + (doubling - 7) * 4 + static_cast<unsigned>(quarter) - 1;
}
[[nodiscard]] constexpr std::size_t class_size(unsigned index) noexcept {
  if (index < kSmallClasses) return (std::size_t{index} + 1) * 16;
  const unsigned doubling = (index - kSmallClasses) / 4 + 7;
  return (std::size_t{1} << doubling) +
         ((index - kSmallClasses) % 4 + 1) * (std::size_t{1} << (doubling - 2));
}

struct FreeBlock {
  FreeBlock* next;
};

/// At the front of the arena's memory.
struct ArenaHeader {
  static constexpr std::uint64_t kMagic = 0x314e'4552'4154'5050;  // "PPTAREN1"
  struct Class {
    FreeBlock* free;    // given back
    std::byte* unused;  // carved, never handed out
    std::byte* unused_end;
  };
  std::uint64_t magic;
  std::uint64_t used;  // bytes from the front; atomic by std::atomic_ref
  void* root;
  alignas(16) std::array<std::byte, 32> resource;  // the std::pmr::memory_resource
  std::array<Class, kClasses> classes;
};

struct ArenaState {
  explicit ArenaState(Territory& where) noexcept : territory(where) {}

  [[nodiscard]] ArenaHeader& header() const noexcept {
    return *reinterpret_cast<ArenaHeader*>(territory.region().data());
  }
  [[nodiscard]] std::size_t used() const noexcept {
    return std::atomic_ref<std::uint64_t>(header().used).load(std::memory_order_acquire);
  }
  /// An empty arena.
  void format() noexcept;
  /// After its memory was restored: pointers to this process's objects.
  void adopt() noexcept;

  void* allocate(std::size_t size, std::size_t alignment);
  void deallocate(void* block, std::size_t size, std::size_t alignment) noexcept;

  /// Nobody is half-way through an allocation while these are held.
  void lock_all() noexcept;
  void unlock_all() noexcept;

  Territory& territory;

 private:
  std::byte* carve(std::size_t length, std::size_t alignment);
  std::array<std::mutex, kClasses> locks_;
  std::mutex carving_;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
