// DirtyTracker: one of the three forms of DIRTY over one region. docs/design/vm.md, "DIRTY".
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/vm/region.hpp>

#include "sys/mapping.hpp"
#include "vm/backends/operations.hpp"

namespace pagetrap {
inline namespace v0 {

class DirtyTracker {
 public:
  virtual ~DirtyTracker() = default;
  /// Once, when the tracker is attached to its region: everything is clean.
  virtual Outcome begin(RegionState& state) = 0;
  /// Declare `range` clean.
  virtual Outcome arm(RegionState& state, PageRange range) = 0;
  virtual Result<Pages> collect(RegionState& state, PageRange range,
                                std::vector<PageRange>& out) = 0;
  /// The same, but what is found need not be armed: `armed` says whether it is.
  virtual Result<Pages> find(RegionState& state, PageRange range, std::vector<PageRange>& out,
                             bool& armed) {
    armed = true;
    return collect(state, range, out);
  }
  /// A write-protect fault in a page of `state`. True if the tracker resolved it.
  virtual bool on_write_fault(RegionState& state, PageRange page) noexcept PAGETRAP_SIGNAL_SAFE = 0;
  /// `range` is about to be made writable otherwise (supplied, unprotected), and now it has been:
  /// it counts as written. Always called in pairs.
  virtual void opening(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE = 0;
  virtual void opened(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE = 0;
  virtual Outcome rearm_in_child(RegionState& state) noexcept = 0;

  std::mutex lock;  // collect() and arm() exclude each other
};

/// Pages that become writable without a trap count as written. Nothing without a tracker.
class Opening {
 public:
  Opening(DirtyTracker* tracker, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE : tracker_(tracker),
                                                                                  range_(range) {
    if (tracker_ != nullptr) tracker_->opening(range_);
  }
  ~Opening() PAGETRAP_SIGNAL_SAFE {
    if (tracker_ != nullptr) tracker_->opened(range_);
  }
  Opening(const Opening&) = delete;
  Opening& operator=(const Opening&) = delete;

 private:
  DirtyTracker* tracker_;
  PageRange range_;
};

/// The base of scan and ring.
class ScanTracker : public DirtyTracker {
 public:
  Outcome begin(RegionState& state) override;
  Outcome arm(RegionState& state, PageRange range) override;
  Result<Pages> collect(RegionState& state, PageRange range, std::vector<PageRange>& out) override;
  bool on_write_fault(RegionState& state, PageRange page) noexcept PAGETRAP_SIGNAL_SAFE override;
  void opening(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE override;
  void opened(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE override;
  Outcome rearm_in_child(RegionState& state) noexcept override;

 private:
  Result<Pages> report_unknown(PageRange part, std::vector<PageRange>& out);
  Result<Pages> scan_known(PageRange part, std::vector<PageRange>& out);
  void forget_unknown(PageRange range);

  RegionState* state_ = nullptr;
  // Until the whole region has been armed once, pages that were never touched carry no mark, and
  // the kernel calls them written.
  bool armed_once_ = false;
  // Pages that count as written whatever the kernel says, sorted: of a memory object in a fork()ed
  // child, where the kernel knows nothing of them.
  std::vector<PageRange> unknown_;
  std::atomic<bool> all_unknown_{false};  // and all the others too
};

/// DirtyForm::scan: the kernel marks, PAGEMAP_SCAN collects.
std::unique_ptr<DirtyTracker> make_scan_tracker();
/// DirtyForm::traps: write-protect faults mark a table.
Result<std::unique_ptr<DirtyTracker>> make_trap_tracker(PageRange range);
/// DirtyForm::ring: as scan; a perf ring of fault addresses says where to look.
Result<std::unique_ptr<DirtyTracker>> make_ring_tracker();

/// The lock that ring trackers share, for fork().
void lock_rings() noexcept;
void unlock_rings() noexcept;

}  // namespace v0
}  // namespace pagetrap
