// Cards: a byte for each 512 bytes of the heap, which a store sets.
#pragma once

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <pagetrap/gc/barriers.hpp>

#include "gc/outcome.hpp"
#include "gc/page.hpp"
#include "gc/zeroed.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// Two tables: a flip has the program mark the other one, and looks at what was marked before. The
/// cards of a page are a word in each.
///
/// RACE a mark that comes late, by a thread that had the table's address before the flip: its slot
/// was in a register then, and has been taken for marked. In a table that was cleared meanwhile it
/// costs a page to look at.
class Cards {
 public:
  static constexpr std::uint64_t kAll = ~std::uint64_t{0};
  static constexpr std::size_t kBytes = std::size_t{1} << detail::BarrierState::kCardShift;

  Outcome create(const std::byte* heap, std::size_t size_bytes) {
    for (sys::Mapping& table : tables_) {
      auto memory = zeroed_memory(size_bytes / kBytes);
      if (!memory) return memory.error();
      table = std::move(*memory);
    }
    heap_ = reinterpret_cast<std::uintptr_t>(heap);
    return kDone;
  }
  [[nodiscard]] bool exist() const noexcept PAGETRAP_SIGNAL_SAFE { return heap_ != 0; }

  /// What BarrierState::cards is now.
  [[nodiscard]] std::uint8_t* biased() const noexcept { return biased(now_); }
  /// The same of one of the tables.
  [[nodiscard]] std::uint8_t* biased(unsigned which) const noexcept {
    const auto table = reinterpret_cast<std::uintptr_t>(tables_[which].range().base);
    return reinterpret_cast<std::uint8_t*>(table - (heap_ >> detail::BarrierState::kCardShift));
  }
  /// Threads stand still.
  void turn() noexcept { now_ = 1 - now_; }
  /// The cards of a page as they were marked before the last turn().
  [[nodiscard]] std::uint64_t before(PageIndex page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return word(1 - now_, page).load(std::memory_order_relaxed);
  }
  /// As they are marked now.
  [[nodiscard]] std::uint64_t now(PageIndex page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return word(now_, page).load(std::memory_order_relaxed);
  }
  /// The same as if they had been marked before. Threads stand still.
  void mark_before(PageIndex page, std::uint64_t marks) noexcept {
    word(1 - now_, page).fetch_or(marks, std::memory_order_relaxed);
  }
  void mark_now(PageIndex page, std::uint64_t marks) noexcept {
    word(now_, page).fetch_or(marks, std::memory_order_relaxed);
  }
  /// The card of a byte of a page.
  static std::uint64_t card_of(std::uintptr_t offset) noexcept {
    return std::uint64_t{1} << offset / kBytes % 8 * 8;
  }
  /// Nobody looks at the marks of these pages from before the last turn() any more.
  void forget(PageIndex begin, PageIndex end) noexcept {
    for (PageIndex page = begin; page < end; ++page) {
      const auto marks = word(1 - now_, page);
      if (marks.load(std::memory_order_relaxed) != 0) marks.store(0, std::memory_order_relaxed);
    }
  }

 private:
  [[nodiscard]] std::atomic_ref<std::uint64_t> word(unsigned table, PageIndex page) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return std::atomic_ref<std::uint64_t>(
        reinterpret_cast<std::uint64_t*>(tables_[table].range().base)[page]);
  }
  std::array<sys::Mapping, 2> tables_;
  std::uintptr_t heap_ = 0;
  unsigned now_ = 0;  // which of them is marked
};
static_assert(kPageBytes / Cards::kBytes == sizeof(std::uint64_t));

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
