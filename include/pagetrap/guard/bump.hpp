// BumpAllocator: an allocation is an addition and a first store. Whether the nursery is full is
// asked by a comparison, or not at all: the store faults then, and is run again in the next
// nursery.
#pragma once

#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>
#include <pagetrap/guard/first_store.hpp>
#include <pagetrap/guard/nursery.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// The guard behind the nursery is the check. On CPUs other than x86-64: as CompareAndBranch.
struct GuardPage {
  static constexpr bool kCompares = !detail::kRestartableStores;
};

/// The same by instructions.
struct CompareAndBranch {
  static constexpr bool kCompares = true;
};

/// Allocates in nurseries of `pool`, one after the other. One thread at a time, and not in a signal
/// handler that may have interrupted it. As a local variable its cursor lives in a register; as a
/// thread_local each thread has nurseries of its own. Small, copyable: a copy and its original may
/// not both go on.
///
/// SOURCE  Appel & Li 1991, section 3, heap overflow; the pool must outlive it.
template <class Limit>
class BumpAllocator {
 public:
  /// To be assigned before the first allocation. Constant, so that a thread_local costs no check.
  constexpr BumpAllocator() noexcept = default;
  explicit BumpAllocator(NurseryPool& pool) noexcept
      : pool_(&pool), cursor_(pool.nowhere()), limit_(cursor_) {}

  /// An object of `size_bytes`, a multiple of 8 and not 0, whose last eight bytes are `last_word`;
  /// the others are what they were. Aligned to 8 bytes, or to what all sizes are multiples of.
  /// Null if NurseryOptions::refill gave nothing. 16 bits: what is longer could jump over the
  /// guard.
  [[gnu::always_inline]] std::byte* allocate(std::uint16_t size_bytes,
                                             std::uint64_t last_word = 0) noexcept {
    std::byte* object = cursor_;
    std::byte* next = object + size_bytes;
    if constexpr (Limit::kCompares) {
      // Of what is left, not of the sum, which may wrap.
      if (size_bytes > static_cast<std::size_t>(limit_ - object)) [[unlikely]] {
        const NurseryPool::Place place = pool_->place(object, size_bytes);
        if (place.object == nullptr) return nullptr;
        object = place.object;
        next = object + size_bytes;
        limit_ = place.limit;
      }
      __builtin_memcpy(next - sizeof last_word, &last_word, sizeof last_word);
    } else {
      detail::first_store(object, next, last_word);
    }
    cursor_ = next;
    return object;
  }

  /// Of any size up to NurseryPool::nursery_bytes(); null beyond. Always compares. Its bytes are
  /// what they were.
  std::byte* allocate_large(std::size_t size_bytes) noexcept {
    const NurseryPool::Place place = pool_->place(cursor_, size_bytes);
    if (place.object == nullptr) return nullptr;
    cursor_ = place.object + size_bytes;
    limit_ = place.limit;
    return place.object;
  }

  /// Where the next object will be, if it fits.
  [[nodiscard]] std::byte* cursor() const noexcept { return cursor_; }

 private:
  NurseryPool* pool_ = nullptr;
  std::byte* cursor_ = nullptr;
  std::byte* limit_ = nullptr;  // not looked at with GuardPage
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
