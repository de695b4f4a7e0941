// Worker: what a thread needs to copy objects. Every attached thread is one, inside its traps, and
// so is the collector's own.
#pragma once

#include <atomic>
#include <cstdint>

#include "gc/page.hpp"
#include "gc/pile.hpp"
#include "gc/spaces.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

struct Worker {
  // Pages that this thread copies into, and nobody else.
  std::atomic<PageIndex> buffer{kNoPage};
  std::atomic<PageIndex> leaf_buffer{kNoPage};
  PageSpan opening;  // scanned pages that wait to be opened together
  std::atomic<std::uint64_t> copied_bytes{0};
  std::atomic<std::uint64_t> scanned_pages{0};
  std::atomic<std::uint64_t> traps{0};

  void drop_buffers() noexcept {
    buffer.store(kNoPage, std::memory_order_relaxed);
    leaf_buffer.store(kNoPage, std::memory_order_relaxed);
  }
};

/// Pages to copy into. take() is for traps: no lock. give() is for the end of a cycle, when nobody
/// takes any.
class FreePages {
 public:
  Outcome create(PageSpan span) {
    span_ = span;
    wild_.store(span.begin, std::memory_order_relaxed);
    return list_.create(span.size());
  }
  /// kNoPage: there are none.
  PageIndex take() noexcept PAGETRAP_SIGNAL_SAFE {
    in_use_.fetch_add(1, std::memory_order_relaxed);
    const std::size_t place = next_.fetch_add(1, std::memory_order_relaxed);
    if (place < list_.size()) return list_.at(place) - 1;
    const PageIndex page = wild_.fetch_add(1, std::memory_order_relaxed);
    return page < span_.end ? page : kNoPage;
  }
  /// Before the first give() after takes.
  void forget_taken() noexcept {
    const std::size_t taken = std::min(next_.load(std::memory_order_relaxed), list_.size());
    const std::size_t left = list_.size() - taken;
    for (std::size_t i = 0; i < left; ++i) list_.set(i, list_.at(taken + i));
    list_.shrink(left);
    next_.store(0, std::memory_order_relaxed);
  }
  void give(PageIndex page) noexcept {
    list_.push(page + 1);
    in_use_.fetch_sub(1, std::memory_order_relaxed);
  }
  [[nodiscard]] std::size_t in_use() const noexcept {
    return in_use_.load(std::memory_order_relaxed);
  }
  /// Pages that were taken at some time are before this one.
  [[nodiscard]] PageIndex wild() const noexcept PAGETRAP_SIGNAL_SAFE {
    return std::min(wild_.load(std::memory_order_relaxed), span_.end);
  }
  [[nodiscard]] std::size_t listed() const noexcept {
    const std::size_t taken = next_.load(std::memory_order_relaxed);
    return list_.size() - std::min(taken, list_.size());
  }
  [[nodiscard]] PageSpan span() const noexcept { return span_; }

 private:
  PageSpan span_;
  Pile<PageIndex> list_;  // number and one: zero is what nobody wrote
  std::atomic<std::size_t> next_{0};
  std::atomic<PageIndex> wild_{0};
  std::atomic<std::size_t> in_use_{0};
};

/// Pages that are to be scanned. push() is for traps.
class ScanQueue {
 public:
  static constexpr PageIndex kWholeObject = PageIndex{1} << 31;  // in what pop() returns

  Outcome create(std::size_t pages) { return list_.create(pages); }
  void push(PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE { list_.push(page + 1); }
  /// All pages of the large object at `first`.
  void push_object(PageIndex first) noexcept PAGETRAP_SIGNAL_SAFE {
    list_.push((first + 1) | kWholeObject);
  }
  /// kNoPage: there are none, or the next one is not written yet (RACE its thread is in push();
  /// whoever ends a cycle waits for that thread, and looks again).
  PageIndex pop() noexcept {
    std::size_t next = next_.load(std::memory_order_relaxed);
    for (;;) {
      if (next >= list_.size()) return kNoPage;
      const PageIndex page = list_.at(next);
      if (page == 0) return kNoPage;
      if (next_.compare_exchange_weak(next, next + 1, std::memory_order_relaxed)) return page - 1;
    }
  }
  [[nodiscard]] bool empty() const noexcept {
    return next_.load(std::memory_order_relaxed) >= list_.size();
  }
  /// With nobody else at it.
  void clear() noexcept {
    list_.clear();
    next_.store(0, std::memory_order_relaxed);
  }

 private:
  Pile<PageIndex> list_;
  std::atomic<std::size_t> next_{0};
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
