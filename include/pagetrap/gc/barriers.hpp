// What barriers in instructions need to know, for the references of twin.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace detail {

/// Of the heap that a thread is attached to. Changes while the thread stands still, but for
/// `state`, which also changes at the end of a cycle.
struct BarrierState {
  // How the collector keeps what it knows of a page: a record of kRecordBytes, in it the cycle that
  // the page is of, and its kind.
  static constexpr std::size_t kPageBytes = 4096;
  static constexpr std::size_t kRecordBytes = 32;
  static constexpr std::size_t kEpochAt = 4;
  static constexpr std::size_t kKindAt = 28;
  static constexpr unsigned kCardShift = 9;  // cards of 512 bytes, as the JVM has

  std::uint32_t state = 0;                // odd: a cycle is under way
  std::uintptr_t base = 0;                // the heap's first byte
  std::uintptr_t first = 0;               // from-space is so far from it, or farther,
  std::uintptr_t length = 0;              // and not farther than this from there
  const std::byte* records = nullptr;     // of the heap's pages
  const std::uint32_t* limits = nullptr;  // by kind: pages of an earlier cycle are from-space
  std::uint8_t* cards = nullptr;          // of the card of address 0, were there one

  /// Whether the object, or null, is in from-space, or a large one that may not be marked.
  ///
  /// RACE a flip between two lines: `first` of one cycle and `length` of the other let an object
  /// through that is in no from-space; what is wrong with the answer the caller finds.
  [[nodiscard]] bool is_from_space(const void* object) const noexcept {
    const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(object) - base;
    if (offset - first >= length) return false;
    const std::byte* const record = records + offset / kPageBytes * kRecordBytes;
    const auto kind =
        __atomic_load_n(reinterpret_cast<const std::uint8_t*>(record + kKindAt), __ATOMIC_ACQUIRE);
    const auto epoch = __atomic_load_n(reinterpret_cast<const std::uint32_t*>(record + kEpochAt),
                                       __ATOMIC_ACQUIRE);
    return epoch < __atomic_load_n(limits + kind, __ATOMIC_ACQUIRE);
  }
};
extern PAGETRAP_API constinit thread_local BarrierState barriers;

/// What the slot refers to, copied out of from-space if it was there; the slot says so from now on.
PAGETRAP_API void* load_slowly(const void* slot) noexcept;

/// Baker's read barrier.
///
/// RACE a flip between the first line and the second: the slot's object may be in from-space, and
/// this thread would not know. A cycle's end, and from-space in use again, between the second line
/// and the third: the page would seem to be none of it. The last comparison finds both, where a
/// runtime with safepoints has a poll instead.
template <class T>
[[nodiscard, gnu::always_inline]] inline T* checked_load(T* const& slot) noexcept {
  const BarrierState& here = barriers;
  const std::uint32_t state = __atomic_load_n(&here.state, __ATOMIC_ACQUIRE);
  T* const object = __atomic_load_n(&slot, __ATOMIC_ACQUIRE);
  bool is_old = false;
  if ((state & 1) != 0) is_old = here.is_from_space(object);
  if (is_old || __atomic_load_n(&here.state, __ATOMIC_ACQUIRE) != state) [[unlikely]]
    return static_cast<T*>(load_slowly(&slot));
  return object;
}

/// A card-marking write barrier.
///
/// RACE a flip between the store and the mark would not find the mark. The slot's address is in a
/// register or on the stack from before the store until after the mark, which is what the two empty
/// statements are for; and a flip takes the card of whatever a stack points to for marked.
template <class T>
[[gnu::always_inline]] inline void carded_store(T*& place, T* object) noexcept {
  T** slot = &place;
  asm volatile("" : "+r"(slot));
  *slot = object;
  asm volatile("" : : : "memory");
  __atomic_store_n(
      barriers.cards + (reinterpret_cast<std::uintptr_t>(slot) >> BarrierState::kCardShift),
      std::uint8_t{1}, __ATOMIC_RELAXED);
  asm volatile("" : : "r"(slot) : "memory");
}

}  // namespace detail
}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
