// What the first pages of a store hold: everything that the heap must remember. They are written by
// nearly every transaction, so they are never protected, and compared at every commit.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "store/format/layout.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

// Size classes: multiples of 16 bytes up to 128, then four to each doubling, to two pages. What is
// larger takes whole pages.
inline constexpr unsigned kFineClasses = 8;
inline constexpr std::size_t kLargestBlock = 2 * kPageBytes;
inline constexpr unsigned kClasses = kFineClasses + 4 * 6;

[[nodiscard]] constexpr unsigned size_class(std::size_t size) noexcept {
  if (size <= 128) return size == 0 ? 0 : static_cast<unsigned>((size + 15) / 16 - 1);
  const auto doubling = static_cast<unsigned>(std::bit_width(size - 1)) - 1;  // 2^d < size
  const std::size_t step = std::size_t{1} << (doubling - 2);
  const std::size_t quarter = (size - (std::size_t{1} << doubling) + step - 1) / step;  // 1 to 4
  return kFineClasses + (doubling - 7) * 4 + static_cast<unsigned>(quarter) - 1;
}
[[nodiscard]] constexpr std::size_t class_size(unsigned index) noexcept {
  if (index < kFineClasses) return (std::size_t{index} + 1) * 16;
  const unsigned doubling = (index - kFineClasses) / 4 + 7;
  return (std::size_t{1} << doubling) +
         ((index - kFineClasses) % 4 + 1) * (std::size_t{1} << (doubling - 2));
}
static_assert(size_class(kLargestBlock) == kClasses - 1 &&
              class_size(kClasses - 1) == kLargestBlock);

struct FreeBlock {
  FreeBlock* next;
};

/// A named object. In a block of its own; the name follows.
struct RootEntry {
  RootEntry* next = nullptr;
  void* object = nullptr;
  std::uint64_t fingerprint = 0;
  std::uint64_t object_bytes = 0;
  std::uint32_t name_bytes = 0;
  std::uint32_t type_bytes = 0;  // of the type's name, after the root's; kTypedRoot may be added
};

inline constexpr std::uint32_t kTypedRoot = std::uint32_t{1} << 31;  // the object is a typed block

/// Pairs of page numbers are words too: with this in the upper one they are no address.
inline constexpr PageNumber kNoAddress = PageNumber{1} << 31;

inline constexpr std::uint64_t kHeapMagic = 0x0a31'7061'6548'7254;  // "TrHeap1\n"
inline constexpr std::size_t kBins = 33;
inline constexpr std::size_t kRootBuckets = 512;

struct HeapHeader {
  struct Class {
    FreeBlock* free = nullptr;    // given back
    std::byte* unused = nullptr;  // never handed out
    std::byte* unused_end = nullptr;
  };
  std::uint64_t magic = kHeapMagic;
  std::uint64_t used_pages = 0;   // from the front; none beyond was ever handed out
  std::uint64_t bitmap_page = 0;  // two bitmaps, `reserve / 8` bytes each: see page_runs.hpp
  std::uint64_t allocated_bytes = 0;
  std::uint64_t root_count = 0;
  std::array<Class, kClasses> classes{};
  std::array<PageNumber, kBins> free_runs{};  // by the logarithm of their length; 0: none
  std::array<RootEntry*, kRootBuckets> roots{};
  // Zero in stores of version 1, as all that follows.
  std::uint64_t typed_bytes = 0;  // of allocated_bytes: those whose pointers the map has
  PageNumber map_directory = 0;   // 0: no typed block was ever made. See pointer_map.hpp
  PageNumber map_covered = 0;     // so many map pages, from the front
};
static_assert(sizeof(HeapHeader) <= kHotPages * kPageBytes);

/// Of blocks whose pointers are not known.
[[nodiscard]] constexpr std::uint64_t untyped_bytes(const HeapHeader& header) noexcept {
  return header.allocated_bytes - header.typed_bytes;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
