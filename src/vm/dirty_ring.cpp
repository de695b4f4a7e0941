// DirtyForm::ring: WP_ASYNC as in scan, and perf's ring of fault addresses says which pages to look
// at, so that finding 4 pages of 1 GiB does not walk 262,144 entries.
//
// The ring alone is not exact: perf sees no fault that the kernel takes on a thread's behalf
// through get_user_pages (O_DIRECT, process_vm_writev to self), none in system calls for an
// ordinary user, none when it has no room. But getrusage() counts them all. So:
//   samples drained == faults completed  ->  every fault is known; look only at those pages
//   otherwise                            ->  one PAGEMAP_SCAN of the region, which is always exact
// Samples are drained BEFORE the count is read: a sampled fault has been counted (the kernel counts
// first), so equality leaves no room for a counted fault that is not sampled.
// In both cases the pages are found and armed again by PAGEMAP_SCAN, which is atomic.
//
// RACE after a mismatch the two numbers must be brought to a common start, but a fault that is
// counted and not yet sampled would, sampled later, hide one that never will be. So they are read
// while all other threads are held in a signal handler, where no fault is half done.
//
// Other processes that write our memory (process_vm_writev, ptrace) are counted in their own usage:
// use DirtyForm::scan where that happens.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>

#include <pagetrap/vm/freeze.hpp>

#include "sys/fault_ring.hpp"
#include "sys/pagemap.hpp"
#include "vm/address_map.hpp"
#include "vm/dirty_tracker.hpp"
#include "vm/process_files.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

class RingTracker;

// The process's rings, and the trackers that share them.
struct RingDomain {
  std::mutex lock;
  std::optional<sys::FaultRing> ring;  // GUARDED_BY(lock), as all below
  std::vector<RingTracker*> trackers;
  std::vector<std::byte*> drained;
  std::uint64_t sampled = 0;  // since the common start
  std::uint64_t start = 0;    // completed_faults() at the common start
  unsigned mismatches = 0;    // calls in a row that had to scan
};

RingDomain& domain() {
  static auto* const the_domain = new RingDomain;  // leaked: see registry.cpp
  return *the_domain;
}

class RingTracker final : public ScanTracker {
 public:
  RingTracker() {
    const std::lock_guard guard(domain().lock);
    domain().trackers.push_back(this);
  }
  ~RingTracker() override {
    RingDomain& all = domain();
    const std::lock_guard guard(all.lock);
    std::erase(all.trackers, this);
    if (all.trackers.empty()) all.ring.reset();
  }

  Outcome begin(RegionState& state) override {
    range_ = state.range;
    return ScanTracker::begin(state);
  }
  Result<Pages> collect(RegionState& state, PageRange range, std::vector<PageRange>& out) override;
  Result<Pages> find(RegionState& state, PageRange range, std::vector<PageRange>& out,
                     bool& armed) override;
  Outcome rearm_in_child(RegionState& state) noexcept override;
  // Pages filled or opened by a call of ours are written without a fault that could be sampled.
  void opened(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE override {
    ScanTracker::opened(range);
    changed_without_fault_.store(true, std::memory_order_release);
  }

  void take(std::byte* page) {
    if (range_.contains(page)) pending_.push_back(page);
  }
  void must_scan() {
    scan_all_ = true;
    pending_.clear();
  }

 private:
  bool scan_is_cheaper(PageRange range);
  bool knows_all(PageRange range);
  Result<Pages> scan(RegionState& state, PageRange range, std::vector<PageRange>& out);
  Result<Pages> take_pending(PageRange range, std::vector<PageRange>& out, bool rearm);

  PageRange range_;
  std::vector<std::byte*> pending_;  // pages of faults since the last collect, unsorted
  bool scan_all_ = true;             // what the ring knows is not all there is
  std::atomic<bool> changed_without_fault_{false};
};

// Reads the rings and gives the samples to their regions.
void drain(RingDomain& all) {
  all.drained.clear();
  all.sampled += all.ring->drain(all.drained);
  for (std::byte* address : all.drained)
    for (RingTracker* tracker : all.trackers) tracker->take(page_of(address).base);
}

// Sets a common start of samples and counts. Nobody else is in a page fault meanwhile, and somebody
// may have malloc's lock: nothing here allocates. The samples skipped are nobody's loss, since
// every tracker scans first after a restart.
void restart(void* self) {
  auto& all = *static_cast<RingDomain*>(self);
  all.sampled = 0;
  // RACE this thread may fault between the two lines itself. Such a fault is counted and skipped: a
  // mismatch, which is safe. The other order would leave a sample too many, to hide a fault that is
  // never sampled. Twice, since the first time is when these functions' own pages are touched.
  for (int again = 0; again < 2; ++again) {
    all.start = sys::completed_faults();
    all.ring->skip();
  }
}

void do_nothing(void*, void*) noexcept PAGETRAP_SIGNAL_SAFE {}

// The ring's knowledge up to now: true if it is complete.
bool synchronise(RingDomain& all) {
  drain(all);
  const bool complete = all.sampled == sys::completed_faults() - all.start;
  if (complete && !all.ring->lost()) {
    all.mismatches = 0;
    return true;
  }
  for (RingTracker* tracker : all.trackers) tracker->must_scan();
  // A fault in flight heals by itself at the next look; what stays apart needs a new start.
  constexpr unsigned kPatience = 2;
  if (++all.mismatches >= kPatience) {
    all.mismatches = 0;
    // If some thread does not answer, the old start stays: every later call scans, which is exact.
    static_cast<void>(for_every_other_thread(do_nothing, &all, restart));
  }
  return false;
}

Result<Pages> RingTracker::take_pending(PageRange range, std::vector<PageRange>& out, bool rearm) {
  std::size_t pages = 0;
  std::vector<std::byte*> outside;
  for (std::size_t i = 0; i < pending_.size();) {
    if (!range.contains(pending_[i])) {
      outside.push_back(pending_[i++]);
      continue;
    }
    PageRange run{pending_[i++], Pages{1}};
    while (i < pending_.size() && pending_[i] == run.end() && range.contains(pending_[i])) {
      run.length = Pages{run.length.count() + 1};
      ++i;
    }
    if (!rearm) {
      out.push_back(run);
      pages += run.length.count();
      continue;
    }
    const auto found = sys::scan_written(pagemap_descriptor(), run, true, out);
    if (!found) {
      scan_all_ = true;
      return found;
    }
    pages += found->count();
  }
  pending_ = std::move(outside);
  return Pages{pages};
}

// One scan of `range` costs 1 ns a page and a flush; looking at a page by itself, with a flush of
// its own, 1.3 us.
bool RingTracker::scan_is_cheaper(PageRange range) {
  std::sort(pending_.begin(), pending_.end());
  pending_.erase(std::unique(pending_.begin(), pending_.end()), pending_.end());
  return pending_.size() > 8 + range.length.count() / 1200;
}

// False: the ring does not, or a scan is cheaper.
bool RingTracker::knows_all(PageRange range) {
  RingDomain& all = domain();
  if (!all.ring) return false;  // a fork()ed child, see below
  synchronise(all);
  if (changed_without_fault_.exchange(false, std::memory_order_acq_rel)) must_scan();
  return !scan_all_ && !scan_is_cheaper(range);
}

Result<Pages> RingTracker::scan(RegionState& state, PageRange range, std::vector<PageRange>& out) {
  const auto found = ScanTracker::collect(state, range, out);
  if (!found) {
    scan_all_ = true;
    return found;
  }
  std::erase_if(pending_, [&](std::byte* page) { return range.contains(page); });
  // Faults from here on are either sampled, or make the next look scan again.
  if (range == state.range) scan_all_ = false;
  return found;
}

Result<Pages> RingTracker::collect(RegionState& state, PageRange range,
                                   std::vector<PageRange>& out) {
  const std::lock_guard guard(domain().lock);
  return knows_all(range) ? take_pending(range, out, true) : scan(state, range, out);
}

Result<Pages> RingTracker::find(RegionState& state, PageRange range, std::vector<PageRange>& out,
                                bool& armed) {
  const std::lock_guard guard(domain().lock);
  armed = !knows_all(range);
  return armed ? scan(state, range, out) : take_pending(range, out, false);
}

// The rings are the parent's. The child scans.
Outcome RingTracker::rearm_in_child(RegionState& state) noexcept {
  domain().ring.reset();
  return ScanTracker::rearm_in_child(state);
}

}  // namespace

void lock_rings() noexcept { domain().lock.lock(); }
void unlock_rings() noexcept { domain().lock.unlock(); }

Result<std::unique_ptr<DirtyTracker>> make_ring_tracker() {
  RingDomain& all = domain();
  {
    const std::lock_guard guard(all.lock);
    if (!all.ring) {
      auto ring = sys::FaultRing::open();
      if (!ring) return ring.error();
      all.ring.emplace(std::move(*ring));
      const auto done = for_every_other_thread(do_nothing, &all, restart);
      if (!done) {
        all.ring.reset();
        return done.error();
      }
    }
  }
  return std::unique_ptr<DirtyTracker>(std::make_unique<RingTracker>());
}

}  // namespace v0
}  // namespace pagetrap
