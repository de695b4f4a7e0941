// PageStates: what was last asked for each page of a region, a byte a page.
//
// It is bookkeeping, not authority: the kernel decides what faults, this table names the reason
// (missing, protected, guard), re-arms a fork()ed child, and serves the null backend. It never
// suppresses the delivery of a fault, so a stale byte can at worst name a wrong kind for a page
// whose rights two threads were changing at that moment.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/vm/region.hpp>

#include "sys/mapping.hpp"
#include "vm/backends/operations.hpp"

namespace pagetrap {
inline namespace v0 {

class PageStates {
 public:
  PageStates() = default;
  PageStates(PageStates&& other) noexcept { *this = std::move(other); }
  PageStates& operator=(PageStates&& other) noexcept;

  [[nodiscard]] bool valid() const noexcept { return bytes_ != nullptr; }

  /// A table for `range`, all pages in `initial`. Committed as it is used (MAP_NORESERVE).
  static Result<PageStates> create(PageRange range, PageState initial);

  [[nodiscard]] PageState get(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
    return decode(byte_of(address).load(std::memory_order_relaxed));
  }
  void set(PageRange range, PageState state) noexcept PAGETRAP_SIGNAL_SAFE;
  void set_one(const void* page, PageState state) noexcept PAGETRAP_SIGNAL_SAFE {
    byte_of(page).store(encode(state), std::memory_order_release);
  }

  /// For rights that have grown: pages that are still `from`, or were protected again (read)
  /// meanwhile, become `to`. False if some page is neither: somebody has emptied it.
  bool replace(PageRange range, PageState from, PageState to) noexcept PAGETRAP_SIGNAL_SAFE {
    bool all = true;
    for (std::byte* page = range.base; page < range.end(); page += page_size())
      all &= replace_one(page, from, to);
    return all;
  }
  bool replace_one(const void* page, PageState from, PageState to) noexcept PAGETRAP_SIGNAL_SAFE {
    std::atomic<std::uint8_t>& byte = byte_of(page);
    std::uint8_t now = byte.load(std::memory_order_relaxed);
    for (;;) {
      const PageState known = decode(now);
      if (known == to) return true;
      if ((known != from && known != PageState::read) || now == claim_byte()) return false;
      if (byte.compare_exchange_weak(now, encode(to), std::memory_order_release)) return true;
    }
  }

  /// The longest run of equal state that starts at `from` and ends at or before `end`.
  [[nodiscard]] PageRange run(std::byte* from, const std::byte* end) const noexcept
      PAGETRAP_SIGNAL_SAFE;

  /// One thread's claim to fill a page: true for exactly one of the callers that find it in
  /// `expected`. The claimer ends it with set(). Others see claimed() until then.
  bool claim(const void* page, PageState expected) noexcept PAGETRAP_SIGNAL_SAFE;
  /// The same whatever state the page is in; false if somebody else has it.
  bool claim_any(const void* page) noexcept PAGETRAP_SIGNAL_SAFE {
    return byte_of(page).exchange(claim_byte(), std::memory_order_acq_rel) != claim_byte();
  }
  [[nodiscard]] bool claimed(const void* page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return byte_of(page).load(std::memory_order_acquire) == claim_byte();
  }

  /// The first claimed page at or after `from`, or `end`. For fork()ed children, where threads that
  /// claimed pages do not exist.
  [[nodiscard]] std::byte* first_claimed(std::byte* from, std::byte* end) const noexcept;

  [[nodiscard]] PageState initial() const noexcept PAGETRAP_SIGNAL_SAFE {
    return initial_.load(std::memory_order_relaxed);
  }

  /// Every page is in `state` now, in constant time but for one call in 15. Concurrent readers see
  /// the old or the new state. Not for the fault path.
  void reset(PageState state) noexcept;

  /// Pages that have not been set since creation or the last reset() are in `state` now.
  void rename_untouched(PageState state) noexcept {
    initial_.store(state, std::memory_order_release);
  }

  /// The first page at or after `from` whose table byte may differ from the initial state, or
  /// `end`: skips what was never touched without reading it. Not for the fault path.
  [[nodiscard]] std::byte* first_changed(std::byte* from, std::byte* end) const noexcept;

 private:
  // A byte is an epoch (high half) and a value (low half): 0 the initial state, 15 claimed, else a
  // PageState + 1. Bytes of another epoch count as 0, so that a new epoch resets the whole table.
  // Untouched memory of the table is epoch 0, value 0.
  static constexpr std::uint8_t kClaimed = 15;
  static constexpr std::uint8_t kEpochs = 16;
  static constexpr std::size_t kInline = 32;  // pages whose bytes need no mapping of their own

  [[nodiscard]] std::uint8_t epoch() const noexcept PAGETRAP_SIGNAL_SAFE {
    return epoch_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] PageState decode(std::uint8_t byte) const noexcept PAGETRAP_SIGNAL_SAFE {
    const unsigned value = byte & 15U;
    if (value == 0 || static_cast<unsigned>(byte) >> 4 != epoch()) return initial();
    if (value == kClaimed) return PageState::missing;
    return static_cast<PageState>(value - 1);
  }
  [[nodiscard]] std::uint8_t encode(PageState state) const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<std::uint8_t>(static_cast<unsigned>(epoch()) << 4 |
                                     (static_cast<unsigned>(state) + 1));
  }
  [[nodiscard]] std::uint8_t claim_byte() const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<std::uint8_t>(static_cast<unsigned>(epoch()) << 4 | kClaimed);
  }
  [[nodiscard]] std::size_t index_of(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
    return (reinterpret_cast<std::uintptr_t>(address) - first_) >> page_shift();
  }
  [[nodiscard]] std::atomic<std::uint8_t>& byte_of(const void* address) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return bytes_[index_of(address)];
  }

  /// Eight bytes at once; `index` is a multiple of eight.
  [[nodiscard]] std::uint64_t word_at(std::size_t index) const noexcept PAGETRAP_SIGNAL_SAFE {
    return std::atomic_ref<std::uint64_t>(reinterpret_cast<std::uint64_t&>(bytes_[index]))
        .load(std::memory_order_relaxed);
  }

  std::atomic<std::uint8_t>* bytes_ = nullptr;
  std::uintptr_t first_ = 0;
  std::atomic<PageState> initial_{PageState::read_write};
  std::atomic<std::uint8_t> epoch_{0};
  alignas(8) std::array<std::atomic<std::uint8_t>, kInline> inline_bytes_{};
  sys::Mapping memory_;
};

}  // namespace v0
}  // namespace pagetrap
