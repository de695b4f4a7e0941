// PageWord: all that is known of one page of a paged region, in one word that changes by
// compare-and-swap.
#pragma once

#include <atomic>
#include <cstdint>

#include <pagetrap/core/config.hpp>
#include <pagetrap/pager/policy.hpp>

namespace pagetrap {
inline namespace v0 {
namespace pager {

enum class Stage : std::uint8_t {
  absent,    // the source has it, or nobody has
  filling,   // one thread brings it
  resident,  // has a frame
  evicting,  // one thread stores it; whoever touches it may take it back
  leaving,   // one thread unmaps it; nobody may take it back
  rescuing,  // one thread puts it back that was taken while evicting
  poisoned,  // the source could not fill it
};

/// A value of a page's word.
class PageWord {
 public:
  constexpr PageWord() = default;
  constexpr explicit PageWord(std::uint64_t bits) noexcept : bits_(bits) {}

  [[nodiscard]] Stage stage() const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<Stage>(bits_ & kStageMask);
  }
  /// Mapped writable: it may differ from what the source has.
  [[nodiscard]] bool writable() const noexcept PAGETRAP_SIGNAL_SAFE {
    return (bits_ & kWritable) != 0;
  }
  /// absent: it was here once, and left at eviction number stamp().
  [[nodiscard]] bool departed() const noexcept PAGETRAP_SIGNAL_SAFE {
    return (bits_ & kDeparted) != 0;
  }
  [[nodiscard]] std::uint32_t stamp() const noexcept PAGETRAP_SIGNAL_SAFE { return high(); }
  [[nodiscard]] FrameId frame() const noexcept PAGETRAP_SIGNAL_SAFE { return high(); }
  [[nodiscard]] std::uint32_t pins() const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<std::uint32_t>(bits_ >> kPinShift) & kMostPins;
  }
  [[nodiscard]] std::uint64_t bits() const noexcept PAGETRAP_SIGNAL_SAFE { return bits_; }

  [[nodiscard]] PageWord in(Stage stage) const noexcept PAGETRAP_SIGNAL_SAFE {
    return PageWord{(bits_ & ~kStageMask) | static_cast<std::uint64_t>(stage)};
  }
  [[nodiscard]] PageWord with_writable(bool on) const noexcept PAGETRAP_SIGNAL_SAFE {
    return PageWord{on ? bits_ | kWritable : bits_ & ~kWritable};
  }
  [[nodiscard]] PageWord with_pins(std::uint32_t pins) const noexcept PAGETRAP_SIGNAL_SAFE {
    constexpr std::uint64_t kField = std::uint64_t{kMostPins} << kPinShift;
    return PageWord{(bits_ & ~kField) | std::uint64_t{pins} << kPinShift};
  }
  static PageWord resident(FrameId frame, bool writable) noexcept PAGETRAP_SIGNAL_SAFE {
    return PageWord{std::uint64_t{frame} << 32}.in(Stage::resident).with_writable(writable);
  }
  static PageWord gone(std::uint32_t stamp) noexcept PAGETRAP_SIGNAL_SAFE {
    return PageWord{std::uint64_t{stamp} << 32 | kDeparted};
  }
  friend bool operator==(PageWord, PageWord) noexcept = default;

  static constexpr std::uint32_t kMostPins = 0xFFFF;

 private:
  [[nodiscard]] std::uint32_t high() const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<std::uint32_t>(bits_ >> 32);
  }
  static constexpr std::uint64_t kStageMask = 15;
  static constexpr std::uint64_t kWritable = 16;
  static constexpr std::uint64_t kDeparted = 32;
  static constexpr unsigned kPinShift = 8;

  std::uint64_t bits_ = 0;  // 0: absent, never here. What untouched memory of the table says
};

/// Where a PageWord lives.
class PageSlot {
 public:
  [[nodiscard]] PageWord load() const noexcept PAGETRAP_SIGNAL_SAFE {
    return PageWord{bits_.load(std::memory_order_acquire)};
  }
  /// False if it was not `expected`, which then says what it is.
  bool change(PageWord& expected, PageWord to) noexcept PAGETRAP_SIGNAL_SAFE {
    std::uint64_t bits = expected.bits();
    if (bits_.compare_exchange_strong(bits, to.bits(), std::memory_order_acq_rel)) return true;
    expected = PageWord{bits};
    return false;
  }
  /// For the one thread that a transient stage belongs to.
  void set(PageWord word) noexcept PAGETRAP_SIGNAL_SAFE {
    bits_.store(word.bits(), std::memory_order_release);
  }

 private:
  std::atomic<std::uint64_t> bits_;
};
static_assert(sizeof(PageSlot) == 8);

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
