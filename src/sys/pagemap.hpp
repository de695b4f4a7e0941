// PAGEMAP_SCAN (6.7): which pages were written, found and armed again in one atomic step.
#pragma once

#include <cstdint>
#include <vector>

#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap::sys {

/// Appends to `out` the runs of pages in `range` written since they were armed, and arms them again
/// if `rearm`. `pagemap` is an open /proc/self/pagemap of this very process.
PAGETRAP_API Result<Pages> scan_written(int pagemap, PageRange range, bool rearm,
                                        std::vector<PageRange>& out);

/// The same for memory that was not armed yet: pages that were never touched are not reported, and
/// are armed too. A page written while this runs is reported by it, by the next scan, or by both.
PAGETRAP_API Result<Pages> scan_written_first(int pagemap, PageRange range,
                                              std::vector<PageRange>& out);

/// Appends the runs of pages of `range` that are there: mapped or swapped out. A write-protect mark
/// without a page counts too, since nothing tells it from a page swapped out. Before 6.7 by reading
/// the page map, 8 bytes for each page.
PAGETRAP_API Result<Pages> scan_present(int pagemap, PageRange range, std::vector<PageRange>& out);

/// The same, but a write-protect mark without a page does not count where this user is told what it
/// is (CAP_SYS_ADMIN). One system call more for each run of such marks, or of pages swapped out.
PAGETRAP_API Result<Done> scan_contents(int pagemap, PageRange range, std::vector<PageRange>& out);

/// The first page of `range` that is mapped or swapped out, or its end. If the page map cannot be
/// read: the first page, whatever it is. Allocates nothing.
PAGETRAP_API std::byte* first_present(int pagemap, PageRange range) noexcept;

}  // namespace pagetrap::sys
