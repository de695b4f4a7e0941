// OpenPages: pages that several transactions in a row have changed. They stay writable, and are
// compared at every commit: 0.1 to 0.3 us, where a fault and the way back cost 2 (ring) to 5
// (traps).
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "store/format/layout.hpp"
#include "store/memory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class OpenPages {
 public:
  Outcome begin(std::size_t pages) {
    auto last = SparseArray<std::uint32_t>::create(pages);
    if (!last) return last.error();
    last_changed_ = std::move(*last);
    return kDone;
  }
  /// Sorted.
  [[nodiscard]] std::span<const PageNumber> pages() const noexcept { return open_; }
  [[nodiscard]] bool contains(PageNumber page) const noexcept {
    return std::binary_search(open_.begin(), open_.end(), page);
  }
  /// At a commit: of the pages that it looked at, sorted, those that are open from now on; the
  /// others go to `close(page, was_open)`, in order.
  template <class Close>
  void update(std::span<const PageNumber> looked_at, std::span<const std::uint8_t> changed,
              Close&& close) {
    still_open_.clear();
    for (std::size_t i = 0; i < looked_at.size(); ++i) {
      const PageNumber page = looked_at[i];
      if (page < kHotPages) continue;
      const bool is_open = contains(page);
      if (stays_open(page, is_open, changed[i] != 0)) {
        still_open_.push_back(page);
      } else {
        close(page, is_open);
      }
    }
    std::swap(open_, still_open_);
    ++commit_;
  }

 private:
  static constexpr std::size_t kMost = 16;
  static constexpr unsigned kPatience = 16;  // commits without a change until it is closed again

  bool stays_open(PageNumber page, bool is_open, bool changed) {
    const std::uint32_t before = last_changed_[page];
    if (changed) last_changed_[page] = commit_;
    if (is_open) return changed || commit_ - before < kPatience;
    return changed && before != 0 && commit_ - before == 1 && still_open_.size() < kMost;
  }

  SparseArray<std::uint32_t> last_changed_;  // by page: the commit, from 1
  std::uint32_t commit_ = 1;
  std::vector<PageNumber> open_;
  std::vector<PageNumber> still_open_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
