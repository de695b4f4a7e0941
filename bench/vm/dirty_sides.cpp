#include "vm/dirty_sides.hpp"

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

#include "vm/trap_sides.hpp"

namespace pagetrap::bench {

namespace {

Region make_tracked(std::size_t size_bytes, DirtyForm form, Report& report) {
  RegionOptions options = write_trap_options(Delivery::any);
  options.faults = FaultSet{};  // nothing to trap: the tracking is all that is asked for
  options.dirty = form;
  auto region = Region::create(size_bytes, options);
  if (!region) report.skip(describe(region.error()));
  if (region->dirty_form() != form) report.skip("this form of DIRTY is not available here");
  return std::move(*region);
}

std::uint32_t page_number(const std::byte* page, const std::byte* base) {
  return static_cast<std::uint32_t>((page - base) >> page_shift());
}

bool same_pages(std::vector<std::uint32_t> numbers, std::span<const std::uint32_t> pages) {
  std::vector<std::uint32_t> expected(pages.begin(), pages.end());
  std::sort(expected.begin(), expected.end());
  std::sort(numbers.begin(), numbers.end());
  return numbers == expected;
}

}  // namespace

PageDeck::PageDeck(std::size_t pages) : order_(pages) {
  std::iota(order_.begin(), order_.end(), 0U);
  std::shuffle(order_.begin(), order_.end(), std::mt19937(5));
}

std::span<const std::uint32_t> PageDeck::deal(std::size_t count) {
  if (next_ + count > order_.size()) next_ = 0;
  const std::span<const std::uint32_t> hand(order_.data() + next_, count);
  next_ += count;
  return hand;
}

TrackedRegion::TrackedRegion(std::size_t size_bytes, DirtyForm form, Report& report)
    : region_(make_tracked(size_bytes, form, report)) {
  populate(region_.data(), size_bytes);
  found_.reserve(size_bytes >> page_shift());
  collect();
}

bool are_exactly(const std::vector<PageRange>& ranges, std::span<const std::uint32_t> pages,
                 const std::byte* base) {
  std::vector<std::uint32_t> numbers;
  for (const PageRange& range : ranges) {
    for (std::size_t i = 0; i < range.length.count(); ++i) {
      numbers.push_back(page_number(range.base, base) + static_cast<std::uint32_t>(i));
    }
  }
  return same_pages(std::move(numbers), pages);
}

bool are_exactly(std::span<std::byte* const> list, std::span<const std::uint32_t> pages,
                 const std::byte* base) {
  std::vector<std::uint32_t> numbers;
  for (const std::byte* const page : list) numbers.push_back(page_number(page, base));
  return same_pages(std::move(numbers), pages);
}

}  // namespace pagetrap::bench
