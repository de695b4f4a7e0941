// DirtyForm::scan: WP_ASYNC (6.7). The kernel resolves write-protect faults by itself, for system
// calls and other processes too, and remembers that the page was written; PAGEMAP_SCAN finds and
// protects the written pages in one atomic step. Exactness is the kernel's: the mark is the absence
// of the page's write-protect bit, changed under the page-table lock with the protection itself.
#include <algorithm>

#include <pagetrap/vm/region.hpp>

#include "sys/pagemap.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/dirty_tracker.hpp"
#include "vm/process_files.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {

namespace {

PageRange between(std::byte* from, std::byte* to) noexcept {
  return {from, Pages{static_cast<std::size_t>(to - from) >> page_shift()}};
}

}  // namespace

Outcome ScanTracker::begin(RegionState& state) {
  state_ = &state;
  // Fresh private memory is clean as it is, and marking 2^28 empty pages would cost 2 GiB of page
  // tables: collect_first() tells holes from written pages. A memory object's pages must be marked,
  // since reading one maps it unmarked; so must whatever is in adopted memory.
  // In a liftable one nothing is mapped but by supply(), which says how.
  const bool fresh = state.options.backing == Backing::anonymous || state.liftable;
  if (state.owns_memory && fresh) return kDone;
  return arm(state, state.range);
}

Outcome ScanTracker::arm(RegionState& state, PageRange range) {
  const int error = sys::uffd_write_protect(state.uffd, range, true);
  if (error != 0) return Error{"UFFDIO_WRITEPROTECT", error, range};
  armed_once_ = armed_once_ || range == state.range;
  forget_unknown(range);
  return kDone;
}

void ScanTracker::forget_unknown(PageRange range) {
  if (all_unknown_.exchange(false, std::memory_order_acq_rel)) unknown_.assign(1, state_->range);
  std::vector<PageRange> rest;
  for (const PageRange& part : unknown_) {
    if (part.base < range.base)
      rest.push_back(between(part.base, std::min(part.end(), range.base)));
    if (part.end() > range.end())
      rest.push_back(between(std::max(part.base, range.end()), part.end()));
  }
  unknown_ = std::move(rest);
}

// Armed first, so that what is written from then on is seen by the next call.
Result<Pages> ScanTracker::report_unknown(PageRange part, std::vector<PageRange>& out) {
  if (const Outcome outcome = arm(*state_, part); failed(outcome)) return outcome;
  out.push_back(part);
  return part.length;
}

Result<Pages> ScanTracker::scan_known(PageRange part, std::vector<PageRange>& out) {
  if (armed_once_) return sys::scan_written(pagemap_descriptor(), part, true, out);
  auto found = sys::scan_written_first(pagemap_descriptor(), part, out);
  if (found) armed_once_ = part == state_->range;
  return found;
}

Result<Pages> ScanTracker::collect(RegionState& state, PageRange range,
                                   std::vector<PageRange>& out) {
  if (unknown_.empty() && !all_unknown_.load(std::memory_order_acquire))
    return scan_known(range, out);
  if (all_unknown_.exchange(false, std::memory_order_acq_rel)) unknown_.assign(1, state.range);
  const std::vector<PageRange> unknown = unknown_;  // report_unknown() changes it
  std::size_t pages = 0;
  std::byte* next = range.base;
  const auto take = [&](std::byte* to, bool known) -> Outcome {
    if (to <= next) return kDone;
    const PageRange part = between(next, to);
    const auto found = known ? scan_known(part, out) : report_unknown(part, out);
    if (!found) return found.error();
    pages += found->count();
    next = to;
    return kDone;
  };
  for (const PageRange& part : unknown) {
    if (part.end() <= range.base || part.base >= range.end()) continue;
    if (const Outcome outcome = take(part.base, true); failed(outcome)) return outcome;
    if (const Outcome outcome = take(std::min(part.end(), range.end()), false); failed(outcome))
      return outcome;
  }
  if (const Outcome outcome = take(range.end(), true); failed(outcome)) return outcome;
  return Pages{pages};
}

// The kernel resolves these faults; none arrives.
bool ScanTracker::on_write_fault(RegionState&, PageRange) noexcept PAGETRAP_SIGNAL_SAFE {
  return false;
}

// userfaultfd maps what it fills without the mark, and that counts as written. Other backends write
// a memory object past this mapping, where the mark stays: take it away.
void ScanTracker::opening(PageRange) noexcept PAGETRAP_SIGNAL_SAFE {}
void ScanTracker::opened(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (is_userfaultfd(state_->operations.id) || state_->options.backing == Backing::anonymous)
    return;
  if (sys::uffd_write_protect(state_->uffd, range, false) != 0)
    all_unknown_.store(true, std::memory_order_release);
}

// No page is marked in the child: all that are there count as written. Those of a memory object may
// be anywhere but in this page table.
Outcome ScanTracker::rearm_in_child(RegionState& state) noexcept {
  if (state.options.backing == Backing::anonymous) {
    armed_once_ = false;
  } else {
    all_unknown_.store(true);
  }
  return kDone;
}

std::unique_ptr<DirtyTracker> make_scan_tracker() { return std::make_unique<ScanTracker>(); }

}  // namespace v0
}  // namespace pagetrap
