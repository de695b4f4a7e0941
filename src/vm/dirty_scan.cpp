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

Outcome ScanTracker::begin(RegionState& state) {
  // Fresh private memory is clean as it is, and marking 2^28 empty pages would cost 2 GiB of page
  // tables: collect_first() tells holes from written pages. A memory object's pages must be marked,
  // since reading one maps it unmarked; so must whatever is in adopted memory.
  if (state.owns_memory && state.options.backing == Backing::anonymous) return kDone;
  return arm(state, state.range);
}

Outcome ScanTracker::arm(RegionState& state, PageRange range) {
  const int error = sys::uffd_write_protect(state.uffd, range, true);
  if (error != 0) return Error{"UFFDIO_WRITEPROTECT", error, range};
  armed_once_ = armed_once_ || range == state.range;
  return kDone;
}

Result<Pages> ScanTracker::collect(RegionState& state, PageRange range,
                                   std::vector<PageRange>& out) {
  if (armed_once_) return sys::scan_written(pagemap_descriptor(), range, true, out);
  auto found = sys::scan_written_first(pagemap_descriptor(), range, out);
  if (found) armed_once_ = range == state.range;
  return found;
}

// The kernel resolves these faults; none arrives.
bool ScanTracker::on_write_fault(RegionState&, PageRange) noexcept PAGETRAP_SIGNAL_SAFE {
  return false;
}

// A page that is mapped without the mark counts as written: nothing to add.
void ScanTracker::opening(PageRange) noexcept PAGETRAP_SIGNAL_SAFE {}
void ScanTracker::opened(PageRange) noexcept PAGETRAP_SIGNAL_SAFE {}

// No page is marked in the child: all that are there count as written.
Outcome ScanTracker::rearm_in_child(RegionState&) noexcept {
  armed_once_ = false;
  return kDone;
}

std::unique_ptr<DirtyTracker> make_scan_tracker() { return std::make_unique<ScanTracker>(); }

}  // namespace v0
}  // namespace pagetrap
