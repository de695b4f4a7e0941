// What the DIRTY questions share: our side, the pages to write, and that both sides found them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <pagetrap/vm/vm.hpp>

#include "harness/mapping.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

/// Page numbers in a random order that is the same on every run, dealt out in hands.
class PageDeck {
 public:
  explicit PageDeck(std::size_t pages);
  /// The next `count` pages, all different.
  std::span<const std::uint32_t> deal(std::size_t count);

 private:
  std::vector<std::uint32_t> order_;
  std::size_t next_ = 0;
};

/// A region that tracks writes, every page present and clean.
class TrackedRegion {
 public:
  /// Ends the process as skipped if `form` is not to be had here.
  TrackedRegion(std::size_t size_bytes, DirtyForm form, Report& report);

  [[nodiscard]] std::byte* page(std::size_t index) const noexcept {
    return region_.data() + index * page_size();
  }

  /// One DIRTY call over the whole region. What it found: found().
  void collect() {
    found_.clear();
    region_.dirty(region_.range(), found_).value();
  }
  [[nodiscard]] const std::vector<PageRange>& found() const noexcept { return found_; }

 private:
  Region region_;
  std::vector<PageRange> found_;
};

/// One store to each of `pages`.
template <class Side>
void write_pages(Side& side, std::span<const std::uint32_t> pages) {
  for (const std::uint32_t page : pages) write_to(side.page(page));
}

/// Whether the ranges, or the list, hold exactly `pages` of memory that begins at `base`.
bool are_exactly(const std::vector<PageRange>& ranges, std::span<const std::uint32_t> pages,
                 const std::byte* base);
bool are_exactly(std::span<std::byte* const> list, std::span<const std::uint32_t> pages,
                 const std::byte* base);

}  // namespace pagetrap::bench
