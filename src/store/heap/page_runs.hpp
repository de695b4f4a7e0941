// PageRuns: whole pages of a store, handed out and taken back. Neighbouring free runs are joined.
//
// Two bits for each page say whether a free run begins there, and whether one ends there; the rest
// is in the free pages themselves. So a run that is in use has no header and is page-aligned, and
// giving one back looks at its two neighbours only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "store/heap/header.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class PageRuns {
 public:
  PageRuns(std::byte* base, std::size_t reserve_pages) noexcept
      : base_(base), reserve_(reserve_pages) {}

  /// Called with every place that is about to change, but for the header's. For those
  /// who are not told by the hardware. `self` is borrowed.
  using Announce = void (*)(void* self, const void* place, std::size_t bytes) noexcept;
  void set_announce(Announce announce, void* self) noexcept {
    announce_ = announce;
    self_ = self;
  }
  void changing(const void* place, std::size_t bytes) const noexcept {
    if (announce_ != nullptr) announce_(self_, place, bytes);
  }

  /// An empty store: the header, and the bitmaps behind it.
  void format() noexcept;
  /// First page of `count`, or 0: there is no room. Contents are undefined.
  PageNumber allocate(std::size_t count) noexcept;
  void free(PageNumber first, std::size_t count) noexcept;

  [[nodiscard]] HeapHeader& header() const noexcept {
    return *reinterpret_cast<HeapHeader*>(base_);
  }
  [[nodiscard]] std::byte* address(PageNumber page) const noexcept {
    return base_ + std::size_t{page} * kPageBytes;
  }
  [[nodiscard]] PageNumber page_of(const void* address) const noexcept {
    return static_cast<PageNumber>(
        static_cast<std::size_t>(static_cast<const std::byte*>(address) - base_) / kPageBytes);
  }
  /// Pages in free runs; walks them all.
  [[nodiscard]] std::uint64_t count_free() const noexcept;

 private:
  struct FreeRun {  // at its begin
    std::uint64_t pages = 0;
    PageNumber next = 0;
    PageNumber previous = 0;
  };
  [[nodiscard]] FreeRun& run_at(PageNumber page) const noexcept {
    return *reinterpret_cast<FreeRun*>(address(page));
  }
  /// At the end of its last page: its length.
  [[nodiscard]] std::uint64_t& foot_at(PageNumber last) const noexcept {
    return *reinterpret_cast<std::uint64_t*>(address(last) + kPageBytes - sizeof(std::uint64_t));
  }
  [[nodiscard]] std::uint64_t* bitmap(bool of_ends) const noexcept;
  [[nodiscard]] bool is_marked(bool end, PageNumber page) const noexcept;
  void mark(bool end, PageNumber page, bool on) noexcept;
  void insert(PageNumber first, std::uint64_t count) noexcept;
  void remove(PageNumber first) noexcept;
  void set_previous(PageNumber run, PageNumber previous) noexcept;
  [[nodiscard]] PageNumber find(std::size_t count, int patience) const noexcept;

  std::byte* base_;
  std::size_t reserve_;
  Announce announce_ = nullptr;
  void* self_ = nullptr;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
