// DirtyForm::scan: WP_ASYNC (6.7). The kernel resolves write-protect faults by itself, for system
// calls and other processes too, and remembers that the page was written; PAGEMAP_SCAN finds and
// protects the written pages in one atomic step. Exactness is the kernel's: the mark is the absence
// of the page's write-protect bit, changed under the page-table lock with the protection itself.
#include <pagetrap/vm/region.hpp>

#include "sys/pagemap.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/dirty_tracker.hpp"
#include "vm/process_files.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {

Outcome ScanTracker::arm(RegionState& state, PageRange range) {
  const int error = sys::uffd_write_protect(state.uffd, range, true);
  return error == 0 ? kDone : Error{"UFFDIO_WRITEPROTECT", error, range};
}

Result<Pages> ScanTracker::collect(RegionState&, PageRange range, std::vector<PageRange>& out) {
  return sys::scan_written(pagemap_descriptor(), range, true, out);
}

// The kernel resolves these faults; none arrives.
bool ScanTracker::on_write_fault(RegionState&, PageRange) noexcept PAGETRAP_SIGNAL_SAFE {
  return false;
}

// A page that is mapped without the mark counts as written: nothing to add.
void ScanTracker::opening(PageRange) noexcept PAGETRAP_SIGNAL_SAFE {}
void ScanTracker::opened(PageRange) noexcept PAGETRAP_SIGNAL_SAFE {}

// No page is marked in the child: all count as written, as in a new region.
Outcome ScanTracker::rearm_in_child(RegionState&) noexcept { return kDone; }

std::unique_ptr<DirtyTracker> make_scan_tracker() { return std::make_unique<ScanTracker>(); }

}  // namespace v0
}  // namespace pagetrap
