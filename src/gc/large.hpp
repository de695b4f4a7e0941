// LargeObjects: runs of pages for objects larger than one.
#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

#include "gc/page.hpp"
#include "gc/spaces.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

class LargeObjects {
 public:
  void create(PageSpan span) {
    free_.emplace(span.begin, span.size());
    wild_.store(span.begin);
  }

  /// The first of `pages` free ones; kNoPage: there are none in a row. Critical.
  PageIndex take(std::size_t pages);
  /// The object at `first` counts from now on.
  void add(PageIndex first);
  void give(PageIndex first, std::size_t pages);

  /// Calls `visit(first)` for each object, and forgets those it returns true for. Their pages stay
  /// taken until give().
  template <class Visit>
  void sweep(Visit visit) {
    const std::lock_guard guard(lock_);
    std::erase_if(heads_, visit);
  }
  /// Pages that were taken at some time are before this one.
  [[nodiscard]] PageIndex wild() const noexcept { return wild_.load(std::memory_order_acquire); }
  /// Across a fork().
  void lock() noexcept { lock_.lock(); }
  void unlock() noexcept { lock_.unlock(); }
  [[nodiscard]] std::size_t pages() const noexcept {
    return in_use_.load(std::memory_order_relaxed);
  }

 private:
  std::mutex lock_;
  std::map<PageIndex, std::size_t> free_;  // GUARDED_BY(lock_): first page, how many
  std::vector<PageIndex> heads_;           // GUARDED_BY(lock_)
  std::atomic<std::size_t> in_use_{0};
  std::atomic<PageIndex> wild_{0};
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
