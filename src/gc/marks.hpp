// Marks: which objects of the pages that stay in place are alive, during a full cycle.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>

#include "gc/outcome.hpp"
#include "gc/page.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// A bit for each word that an object may begin at, and another one for what has been scanned.
/// mark() is for traps. All are clear between two full cycles.
class Marks {
 public:
  Outcome create(std::size_t pages);

  /// False: it was marked already. `at`: bytes from the page's beginning to the object's header.
  bool mark(PageIndex page, std::size_t at) noexcept PAGETRAP_SIGNAL_SAFE {
    const std::uint64_t bit = bit_of(at);
    std::atomic<std::uint64_t>& word = pages_[page].marked[word_of(at)];
    if ((word.load(std::memory_order_relaxed) & bit) != 0) return false;
    return (word.fetch_or(bit, std::memory_order_seq_cst) & bit) == 0;
  }
  [[nodiscard]] bool is_marked(PageIndex page, std::size_t at) const noexcept PAGETRAP_SIGNAL_SAFE {
    return (pages_[page].marked[word_of(at)].load(std::memory_order_acquire) & bit_of(at)) != 0;
  }
  [[nodiscard]] bool has_any(PageIndex page) const noexcept {
    std::uint64_t any = 0;
    for (const auto& word : pages_[page].marked) any |= word.load(std::memory_order_acquire);
    return any != 0;
  }
  /// Whether take_unscanned() has been called for it, and found something.
  [[nodiscard]] bool is_begun(PageIndex page) const noexcept PAGETRAP_SIGNAL_SAFE {
    std::uint64_t any = 0;
    for (const auto& word : pages_[page].scanned) any |= word.load(std::memory_order_relaxed);
    return any != 0;
  }
  [[nodiscard]] bool has_unscanned(PageIndex page) const noexcept PAGETRAP_SIGNAL_SAFE {
    const PageMarks& marks = pages_[page];
    std::uint64_t any = 0;
    for (std::size_t i = 0; i < kWords; ++i)
      any |= marks.marked[i].load(std::memory_order_seq_cst) &
             ~marks.scanned[i].load(std::memory_order_relaxed);
    return any != 0;
  }
  /// Calls `visit(at)` for each object that is marked, and that no earlier call has visited. False:
  /// there was none.
  template <class Visit>
  bool take_unscanned(PageIndex page, Visit visit) noexcept PAGETRAP_SIGNAL_SAFE {
    PageMarks& marks = pages_[page];
    bool found = false;
    for (std::size_t i = 0; i < kWords; ++i) {
      const std::uint64_t marked = marks.marked[i].load(std::memory_order_acquire);
      if ((marked & ~marks.scanned[i].load(std::memory_order_relaxed)) == 0) continue;
      std::uint64_t taken = marked & ~marks.scanned[i].fetch_or(marked, std::memory_order_relaxed);
      found = found || taken != 0;
      for (; taken != 0; taken &= taken - 1)
        visit((i * 64 + static_cast<std::size_t>(std::countr_zero(taken))) * 8);
    }
    return found;
  }
  void clear(PageIndex page) noexcept {
    for (std::size_t i = 0; i < kWords; ++i) {
      pages_[page].marked[i].store(0, std::memory_order_relaxed);
      pages_[page].scanned[i].store(0, std::memory_order_relaxed);
    }
  }

 private:
  static constexpr std::size_t kWords = kPageBytes / 8 / 64;
  struct PageMarks {
    std::array<std::atomic<std::uint64_t>, kWords> marked;
    std::array<std::atomic<std::uint64_t>, kWords> scanned;
  };
  static constexpr std::size_t word_of(std::size_t at) noexcept PAGETRAP_SIGNAL_SAFE {
    return at / 8 / 64;
  }
  static constexpr std::uint64_t bit_of(std::size_t at) noexcept PAGETRAP_SIGNAL_SAFE {
    return std::uint64_t{1} << at / 8 % 64;
  }
  sys::Mapping memory_;
  PageMarks* pages_ = nullptr;
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
