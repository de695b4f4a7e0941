#include "store/heap/page_runs.hpp"

#include <algorithm>
#include <bit>
#include <limits>

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

unsigned bin_of(std::uint64_t pages) { return static_cast<unsigned>(std::bit_width(pages)) - 1; }

// Arbitrary: how many runs of the same bin are looked at before a larger one is cut.
constexpr int kPatience = 16;

}  // namespace

void PageRuns::format() noexcept {
  HeapHeader& made = *new (base_) HeapHeader;
  const std::size_t bitmap_bytes = (reserve_ + 63) / 64 * 8;
  made.bitmap_page = kHotPages;
  made.used_pages = kHotPages + (2 * bitmap_bytes + kPageBytes - 1) / kPageBytes;
}

std::uint64_t* PageRuns::bitmap(bool of_ends) const noexcept {
  auto* const begins =
      reinterpret_cast<std::uint64_t*>(address(static_cast<PageNumber>(header().bitmap_page)));
  return of_ends ? begins + (reserve_ + 63) / 64 : begins;
}

bool PageRuns::is_marked(bool end, PageNumber page) const noexcept {
  return (bitmap(end)[page / 64] >> (page % 64) & 1) != 0;
}

void PageRuns::mark(bool end, PageNumber page, bool on) noexcept {
  const std::uint64_t bit = std::uint64_t{1} << (page % 64);
  std::uint64_t& word = bitmap(end)[page / 64];
  changing(&word, sizeof word);
  word = on ? word | bit : word & ~bit;
}

void PageRuns::set_previous(PageNumber run, PageNumber previous) noexcept {
  changing(&run_at(run), sizeof(FreeRun));
  run_at(run).previous = previous;
}

void PageRuns::insert(PageNumber first, std::uint64_t count) noexcept {
  PageNumber& bin = header().free_runs[bin_of(count)];
  const auto last = static_cast<PageNumber>(first + count - 1);
  changing(&run_at(first), sizeof(FreeRun));
  run_at(first) = {count, bin, 0};
  if (bin != 0) set_previous(bin, first);
  bin = first;
  changing(&foot_at(last), sizeof(std::uint64_t));
  foot_at(last) = count;
  mark(false, first, true);
  mark(true, last, true);
}

void PageRuns::remove(PageNumber first) noexcept {
  const FreeRun run = run_at(first);
  if (run.previous != 0) {
    changing(&run_at(run.previous), sizeof(FreeRun));
    run_at(run.previous).next = run.next;
  } else {
    header().free_runs[bin_of(run.pages)] = run.next;
  }
  if (run.next != 0) set_previous(run.next, run.previous);
  mark(false, first, false);
  mark(true, static_cast<PageNumber>(first + run.pages - 1), false);
}

PageNumber PageRuns::find(std::size_t count, int patience) const noexcept {
  const unsigned own = bin_of(count);
  int looked_at = 0;
  for (PageNumber run = header().free_runs[own]; run != 0 && looked_at < patience;
       run = run_at(run).next, ++looked_at)
    if (run_at(run).pages >= count) return run;
  for (unsigned bin = own + 1; bin < kBins; ++bin)
    if (const PageNumber run = header().free_runs[bin]; run != 0) return run;
  return 0;
}

PageNumber PageRuns::allocate(std::size_t count) noexcept {
  HeapHeader& all = header();
  const bool may_grow = count <= reserve_ - all.used_pages;
  constexpr int kAll = std::numeric_limits<int>::max();
  if (const PageNumber run = find(count, may_grow ? kPatience : kAll); run != 0) {
    const std::uint64_t pages = run_at(run).pages;
    remove(run);
    if (pages > count) insert(static_cast<PageNumber>(run + count), pages - count);
    return run;
  }
  if (!may_grow) return 0;
  const auto first = static_cast<PageNumber>(all.used_pages);
  all.used_pages += count;
  return first;
}

void PageRuns::free(PageNumber first, std::size_t count) noexcept {
  std::uint64_t pages = count;
  if (is_marked(true, first - 1)) {
    const std::uint64_t before = foot_at(first - 1);
    first = static_cast<PageNumber>(first - before);
    remove(first);
    pages += before;
  }
  const auto after = static_cast<PageNumber>(first + pages);
  if (after < header().used_pages && is_marked(false, after)) {
    pages += run_at(after).pages;
    remove(after);
  }
  insert(first, pages);
}

std::uint64_t PageRuns::count_free() const noexcept {
  std::uint64_t pages = 0;
  for (const PageNumber bin : header().free_runs)
    for (PageNumber run = bin; run != 0; run = run_at(run).next) pages += run_at(run).pages;
  return pages;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
