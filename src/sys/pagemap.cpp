#include "sys/pagemap.hpp"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "sys/injection.hpp"
#include "sys/kernel_abi.hpp"

namespace pagetrap::sys {
namespace {

constexpr std::size_t kBatch = 512;  // runs per ioctl: 12 KiB of stack; measured flat from 256 up

void append(const page_region& found, std::vector<PageRange>& out) {
  auto* const base = reinterpret_cast<std::byte*>(found.start);
  const Pages length{(found.end - found.start) >> page_shift()};
  // The kernel ends a run where its buffer or a page table ends; join what touches.
  if (!out.empty() && out.back().end() == base) {
    out.back().length = Pages{out.back().length.count() + length.count()};
  } else {
    out.push_back({base, length});
  }
}

// One PAGEMAP_SCAN over `range`, in as many calls as it takes; `take` gets each run.
template <class Take>
Result<Pages> scan_runs(int pagemap, PageRange range, pm_scan_arg& request, const Take& take) {
  if (const int error = injected(Call::pagemap_scan)) return Error{"PAGEMAP_SCAN", error, range};
  std::array<page_region, kBatch> runs;
  request.size = sizeof request;
  request.start = reinterpret_cast<std::uintptr_t>(range.base);
  request.end = reinterpret_cast<std::uintptr_t>(range.end());
  request.vec = reinterpret_cast<std::uintptr_t>(runs.data());
  // No more than can be found: the kernel allocates a buffer of this length in each call. Measured
  // for one page: half the time.
  request.vec_len = std::min(runs.size(), range.length.count());
  std::size_t pages = 0;
  while (request.start < request.end) {
    const int count = ::ioctl(pagemap, PAGEMAP_SCAN, &request);
    if (count < 0) return Error{"PAGEMAP_SCAN", errno, range, "needs Linux 6.7"};
    for (int i = 0; i < count; ++i) {
      const page_region& run = runs[static_cast<std::size_t>(i)];
      pages += (run.end - run.start) >> page_shift();
      take(run);
    }
    request.start = request.walk_end;
  }
  return Pages{pages};
}

Result<Pages> scan(int pagemap, PageRange range, pm_scan_arg& request,
                   std::vector<PageRange>& out) {
  return scan_runs(pagemap, range, request, [&](const page_region& run) { append(run, out); });
}

// Pages with contents of their own: there or swapped out, and not the shared page of zeroes.
pm_scan_arg having_contents(std::uint64_t also) {
  pm_scan_arg request{};
  request.category_inverted = PAGE_IS_PFNZERO;
  request.category_mask = PAGE_IS_PFNZERO | also;
  request.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
  request.return_mask = PAGE_IS_PRESENT;
  return request;
}

// Sorted and joined, from two sorted lists that may touch or overlap.
void join(std::vector<PageRange>& ranges, std::size_t first) {
  const auto begin = ranges.begin() + static_cast<std::ptrdiff_t>(first);
  std::sort(begin, ranges.end(),
            [](const PageRange& a, const PageRange& b) { return a.base < b.base; });
  std::size_t last = first;
  for (std::size_t i = first + 1; i < ranges.size(); ++i) {
    if (ranges[i].base > ranges[last].end()) {
      ranges[++last] = ranges[i];
    } else if (ranges[i].end() > ranges[last].end()) {
      ranges[last].length =
          pages_for(static_cast<std::size_t>(ranges[i].end() - ranges[last].base));
    }
  }
  if (ranges.size() > first) ranges.resize(last + 1);
}

}  // namespace

Result<Pages> scan_written(int pagemap, PageRange range, bool rearm, std::vector<PageRange>& out) {
  pm_scan_arg request{};
  request.flags = rearm ? PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC : 0;
  // Exactly this pair of masks takes the kernel's short path: measured 0.3 against 11 ms per GiB.
  request.category_mask = PAGE_IS_WRITTEN;
  request.return_mask = PAGE_IS_WRITTEN;
  return scan(pagemap, range, request, out);
}

Result<Pages> scan_written_first(int pagemap, PageRange range, std::vector<PageRange>& out) {
  const std::size_t first = out.size();
  pm_scan_arg touched = having_contents(PAGE_IS_WRITTEN);
  touched.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
  if (auto found = scan(pagemap, range, touched, out); !found) return found;
  // What carries no mark yet are pages never touched, and those written since the first scan.
  // Marking them reports both; the latter have contents.
  std::vector<PageRange> unmarked;
  if (auto found = scan_written(pagemap, range, true, unmarked); !found) return found;
  for (const PageRange& run : unmarked) {
    pm_scan_arg contents = having_contents(0);
    contents.category_anyof_mask = PAGE_IS_PRESENT;  // a mark without a page looks swapped out
    if (auto found = scan(pagemap, run, contents, out); !found) return found;
  }
  join(out, first);
  std::size_t pages = 0;
  for (std::size_t i = first; i < out.size(); ++i) pages += out[i].length.count();
  return Pages{pages};
}

namespace {

// SOURCE Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped.
constexpr std::uint64_t kThere = std::uint64_t{3} << 62;

// Reads the entries of as many pages as fit; returns how many, or -errno.
using Entries = std::array<std::uint64_t, 4096>;
ssize_t read_entries(int pagemap, PageRange range, Entries& entries) noexcept {
  const std::size_t count = std::min(entries.size(), range.length.count());
  const std::uint64_t first = reinterpret_cast<std::uintptr_t>(range.base) >> page_shift();
  const ssize_t got = ::pread(pagemap, entries.data(), count * sizeof entries[0],
                              static_cast<off_t>(first * sizeof entries[0]));
  if (got < 0) return -errno;
  return got < static_cast<ssize_t>(sizeof entries[0])
             ? -EIO
             : got / static_cast<ssize_t>(sizeof entries[0]);
}

Result<Pages> read_present(int pagemap, PageRange range, std::vector<PageRange>& out) {
  Entries entries;
  std::size_t pages = 0;
  const std::uint64_t first = reinterpret_cast<std::uintptr_t>(range.base) >> page_shift();
  for (std::size_t done = 0; done < range.length.count();) {
    const PageRange rest{range.base + bytes(Pages{done}), Pages{range.length.count() - done}};
    const ssize_t got = read_entries(pagemap, rest, entries);
    if (got < 0) return Error{"read /proc/self/pagemap", static_cast<int>(-got), range};
    const auto read = static_cast<std::size_t>(got);
    for (std::size_t i = 0; i < read; ++i) {
      if ((entries[i] & kThere) == 0) continue;
      const std::uint64_t start = (first + done + i) << page_shift();
      append({start, start + page_size(), 0}, out);
      pages += 1;
    }
    done += read;
  }
  return Pages{pages};
}

}  // namespace

std::byte* first_present(int pagemap, PageRange range) noexcept {
  Entries entries;
  while (!range.empty()) {
    const ssize_t got = read_entries(pagemap, range, entries);
    if (got < 0) return range.base;
    const auto read = static_cast<std::size_t>(got);
    for (std::size_t i = 0; i < read; ++i)
      if ((entries[i] & kThere) != 0) return range.base + bytes(Pages{i});
    range = {range.base + bytes(Pages{read}), Pages{range.length.count() - read}};
  }
  return range.base;
}

Result<Pages> scan_present(int pagemap, PageRange range, std::vector<PageRange>& out) {
  pm_scan_arg request = having_contents(0);
  const auto found = scan(pagemap, range, request, out);
  if (found || (found.error().number != ENOTTY && found.error().number != EINVAL)) return found;
  return read_present(pagemap, range, out);
}

namespace {

// A swap entry as the page map shows it: type in 5 bits, offset behind them. Types of swap files
// come first; the last of all is that of marks, whose offset says which mark.
// SOURCE include/linux/swapops.h, Documentation/admin-guide/mm/pagemap.rst
constexpr std::uint64_t kEntryMask = (std::uint64_t{1} << 55) - 1;
constexpr std::uint64_t kWriteProtectMark = 31 | (1 << 5);

// Of pages that look swapped out: those that are.
Result<Done> without_marks(int pagemap, PageRange range, std::vector<PageRange>& out) {
  Entries entries;
  while (!range.empty()) {
    const ssize_t got = read_entries(pagemap, range, entries);
    if (got < 0) return Error{"read /proc/PID/pagemap", static_cast<int>(-got), range};
    const auto read = static_cast<std::size_t>(got);
    for (std::size_t i = 0; i < read; ++i) {
      // RACE what looked swapped out is there by now: it is not a mark, then.
      const bool there = (entries[i] & (std::uint64_t{1} << 63)) != 0;
      if (!there && (entries[i] & kEntryMask) == kWriteProtectMark) continue;
      const auto start = reinterpret_cast<std::uintptr_t>(range.base + bytes(Pages{i}));
      append({start, start + page_size(), 0}, out);
    }
    range = {range.base + bytes(Pages{read}), Pages{range.length.count() - read}};
  }
  return Done{};
}

}  // namespace

Result<Done> scan_contents(int pagemap, PageRange range, std::vector<PageRange>& out) {
  pm_scan_arg request = having_contents(0);
  Result<Done> looked = Done{};
  // One scan for both kinds: a page may be swapped out or in at any time, but is one of them.
  const auto found = scan_runs(pagemap, range, request, [&](const page_region& run) {
    if ((run.categories & PAGE_IS_PRESENT) != 0) {
      append(run, out);
      return;
    }
    const PageRange pages{reinterpret_cast<std::byte*>(run.start),
                          Pages{(run.end - run.start) >> page_shift()}};
    if (auto kept = without_marks(pagemap, pages, out); !kept && looked) looked = kept;
  });
  if (!looked) return looked;
  if (found) return Done{};
  if (found.error().number != ENOTTY && found.error().number != EINVAL) return found.error();
  if (auto read = read_present(pagemap, range, out); !read) return read.error();
  return Done{};
}

}  // namespace pagetrap::sys
