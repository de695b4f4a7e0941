// Addresses: one reservation, cut into shares, shares into slots of one size, so that an address
// tells its slot without a search.
//
//   share 0..7    slots of 2 pages: an object of one page at most, and a guard
//   share 8..31   slots of 2^(n - 6) pages in share n, of which the last is a guard at least
//   share 32..39  class 0, slots of one page: views of shared frames (alias/)
//
// What is not handed out is a guard, and costs nothing: a slot much larger than its object wastes
// addresses only.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// Of slots: class k has 2^k pages, and objects of up to 2^k - 1 pages.
using SizeClass = unsigned;

inline constexpr SizeClass kClasses = 26;   // 1 to 25
inline constexpr SizeClass kLastSmall = 8;  // up to 255 pages: made to fault page by page
inline constexpr SizeClass kViews = 0;
inline constexpr std::size_t kShares = 40;  // 8 for class 1, 24 for the others, 8 for views
inline constexpr std::size_t kSharesOfSmallest = 8;
inline constexpr std::size_t kFirstOfViews = 32;
inline constexpr unsigned kChunkShift = 21;  // what one page of page tables covers
inline constexpr std::size_t kChunkBytes = std::size_t{1} << kChunkShift;

/// Where a slot is.
struct SlotPlace {
  SizeClass size_class = kClasses;  // that is: nowhere
  std::size_t number = 0;           // within its class
  std::uintptr_t start = 0;
};

class Layout {
 public:
  constexpr Layout() = default;
  /// `base` is aligned to chunks, `share_bytes` a power of two.
  Layout(std::uintptr_t base, std::size_t share_bytes) noexcept
      : base_(base),
        size_(share_bytes * kShares),
        share_shift_(static_cast<unsigned>(std::countr_zero(share_bytes))) {}

  [[nodiscard]] bool contains(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
    return reinterpret_cast<std::uintptr_t>(address) - base_ < size_;
  }
  [[nodiscard]] std::uintptr_t base() const noexcept PAGETRAP_SIGNAL_SAFE { return base_; }
  [[nodiscard]] std::size_t size_bytes() const noexcept PAGETRAP_SIGNAL_SAFE { return size_; }
  /// The classes that are made to fault page by page come first.
  [[nodiscard]] std::size_t small_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
    return (kSharesOfSmallest + kLastSmall - 1) << share_shift_;
  }

  [[nodiscard]] static constexpr SizeClass class_for(std::size_t pages) noexcept {
    return static_cast<SizeClass>(std::bit_width(pages));
  }
  [[nodiscard]] static std::size_t slot_bytes(SizeClass k) noexcept PAGETRAP_SIGNAL_SAFE {
    return page_size() << k;
  }
  [[nodiscard]] std::size_t slots(SizeClass k) const noexcept PAGETRAP_SIGNAL_SAFE {
    return bytes_of(k) >> (page_shift() + k);
  }
  [[nodiscard]] std::uintptr_t start(SizeClass k, std::size_t number) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return arena(k) + (number << (page_shift() + k));
  }
  /// Precondition: contains(address).
  [[nodiscard]] SlotPlace find(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
    const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(address) - base_;
    const std::size_t share = offset >> share_shift_;
    const SizeClass k = share >= kFirstOfViews ? kViews
                        : share < kSharesOfSmallest
                            ? 1
                            : static_cast<SizeClass>(share - kSharesOfSmallest + 2);
    const std::size_t number =
        (reinterpret_cast<std::uintptr_t>(address) - arena(k)) >> (page_shift() + k);
    return {k, number, start(k, number)};
  }
  /// Slots of all classes, one after the other.
  [[nodiscard]] std::size_t table_index(SizeClass k, std::size_t number) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    std::size_t before = k == kViews ? table_size_without_views() : 0;
    if (k > 1) {
      // Shares of 2^s pages: class 1 has 8 * 2^(s-1), class j has 2^(s-j).
      const unsigned share_pages = share_shift_ - page_shift();
      before = (kSharesOfSmallest << (share_pages - 1)) +
               ((std::size_t{1} << (share_pages - 1)) - (std::size_t{1} << (share_pages - k + 1)));
    }
    return before + number;
  }
  [[nodiscard]] std::size_t table_size() const noexcept {
    return table_size_without_views() + slots(kViews);
  }
  /// Slots that are handed out and given up together.
  [[nodiscard]] static std::size_t slots_in_chunk(SizeClass k) noexcept PAGETRAP_SIGNAL_SAFE {
    return slot_bytes(k) >= kChunkBytes ? 1 : kChunkBytes / slot_bytes(k);
  }
  [[nodiscard]] std::size_t chunk_of(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
    return (reinterpret_cast<std::uintptr_t>(address) - base_) >> kChunkShift;
  }
  [[nodiscard]] std::size_t chunk_table_size() const noexcept { return size_ >> kChunkShift; }

 private:
  [[nodiscard]] std::size_t table_size_without_views() const noexcept PAGETRAP_SIGNAL_SAFE {
    const unsigned share_pages = share_shift_ - page_shift();
    return (kSharesOfSmallest << (share_pages - 1)) + (std::size_t{1} << (share_pages - 1));
  }
  [[nodiscard]] std::uintptr_t arena(SizeClass k) const noexcept PAGETRAP_SIGNAL_SAFE {
    const std::size_t share = k == kViews ? kFirstOfViews : k == 1 ? 0 : kSharesOfSmallest + k - 2;
    return base_ + (share << share_shift_);
  }
  [[nodiscard]] std::size_t bytes_of(SizeClass k) const noexcept PAGETRAP_SIGNAL_SAFE {
    return (k <= 1 ? kSharesOfSmallest : 1) << share_shift_;
  }
  std::uintptr_t base_ = 0;
  std::size_t size_ = 0;
  unsigned share_shift_ = 0;
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
