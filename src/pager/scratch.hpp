// Scratch: private memory in which pages are filled, and through which they leave. Claimed without
// a lock, by a bit each.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/result.hpp>
#include <pagetrap/pager/source.hpp>

#include "pager/page_word.hpp"
#include "sys/mapping.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

/// Pages that are filled, or leave, together. 64 is what process_madvise is best at, and bounds
/// arrays on signal stacks.
inline constexpr std::size_t kMostAtOnce = 64;

/// Which of 32 things are taken. Low numbers first, so that few are ever committed.
class Claims {
 public:
  /// Waits while all are taken: their holders are in the middle of a fill or an eviction.
  unsigned take(unsigned count) noexcept PAGETRAP_SIGNAL_SAFE {
    for (;;) {
      std::uint32_t taken = taken_.load(std::memory_order_relaxed);
      const auto first = static_cast<unsigned>(std::countr_one(taken));
      if (first >= count) {
        sys::yield();
        continue;
      }
      if (taken_.compare_exchange_weak(taken, taken | 1U << first, std::memory_order_acquire))
        return first;
    }
  }
  void give_back(unsigned number) noexcept PAGETRAP_SIGNAL_SAFE {
    taken_.fetch_and(~(1U << number), std::memory_order_release);
  }

 private:
  std::atomic<std::uint32_t> taken_{0};
};

/// Buffers of 64 pages of plain memory, and what a fill keeps meanwhile: not on its stack, which
/// may be an alternate one of 8 KiB. More threads than buffers may fault at once: they wait for
/// each other here. A nest of fills as deep as that would wait for ever, but its stack ends first.
class Scratch {
 public:
  static constexpr unsigned kBuffers = 32;
  Result<Done> reserve();

  struct Notes {
    std::array<PageRef, kMostAtOnce> pages;
    std::array<PageWord, kMostAtOnce> before;
  };

  class Buffer {
   public:
    explicit Buffer(Scratch& scratch) noexcept PAGETRAP_SIGNAL_SAFE
        : scratch_(scratch),
          number_(scratch.claims_.take(kBuffers)) {}
    ~Buffer() PAGETRAP_SIGNAL_SAFE { scratch_.claims_.give_back(number_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    [[nodiscard]] std::byte* page(std::size_t index) const noexcept PAGETRAP_SIGNAL_SAFE {
      return scratch_.memory_.data() + ((number_ * kMostAtOnce + index) << page_shift());
    }
    [[nodiscard]] Notes& notes() const noexcept PAGETRAP_SIGNAL_SAFE {
      return scratch_.notes_[number_];
    }

   private:
    Scratch& scratch_;
    unsigned number_;
  };

 private:
  sys::Mapping memory_;
  Claims claims_;
  std::array<Notes, kBuffers> notes_{};
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
