// Lift: see lift.hpp. SOURCE mremap(2) MREMAP_DONTUNMAP (5.7); UFFD_FEATURE_EVENT_REMAP keeps the
// registration on both places, and lets the kernel move whole page-table subtrees (measured:
// without the event it clears the marks entry by entry, 3-4 ms per GiB).
#include <pagetrap/vm/lift.hpp>

#include <sys/mman.h>

#include <new>
#include <utility>
#include <vector>

#include <pagetrap/trace/trace.hpp>

#include "sys/injection.hpp"
#include "sys/kernel_abi.hpp"
#include "sys/mapping.hpp"
#include "sys/pagemap.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/userfaultfd.hpp"
#include "vm/channel.hpp"
#include "vm/process_files.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

constexpr std::size_t kSubtree = std::size_t{1} << 30;  // what one upper page-table entry maps
constexpr unsigned kAttempts = 1000;  // EAGAIN while an event is unread

int move_tables(PageRange from, std::byte* to) noexcept {
  if (const int error = sys::injected(sys::Call::mremap)) return error;
  void* const moved = ::mremap(from.base, from.size_bytes(), from.size_bytes(),
                               MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED, to);
  return moved == MAP_FAILED ? errno : 0;
}

// What to do about pages that the window does not have, because nobody ever wrote them.
enum class Holes : std::uint8_t { fill, leave };

// Moves pages from the window or, where the kernel cannot, copies them.
int move_or_copy(const RegionState& state, PageRange to, const std::byte* from, Holes holes,
                 std::size_t& done) noexcept PAGETRAP_SIGNAL_SAFE {
  if ((state.channel->features() & UFFD_FEATURE_MOVE) != 0) {
    const std::uint64_t mode = holes == Holes::leave ? UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES : 0;
    const int error = sys::uffd_move(state.uffd, to, from, mode, done);
    // EBUSY: a page is pinned, or shared with a fork()ed child. It can be copied.
    if ((error != EBUSY && error != EINVAL) || done != 0) return done != 0 ? 0 : error;
    to.length = Pages{1};
  }
  // Reading a hole of the window gives zeroes, which is what it stands for.
  return sys::uffd_copy(state.uffd, to, from, 0, done);
}

// The same for one batch, making progress of at least a page; `done` counts bytes now present.
int restore_batch(RegionState& state, PageRange batch, const std::byte* from, Holes holes,
                  std::size_t& done) noexcept PAGETRAP_SIGNAL_SAFE {
  int error = move_or_copy(state, batch, from, holes, done);
  if (done != 0) return 0;
  const PageRange first{batch.base, Pages{1}};
  if (error == ENOENT) error = sys::uffd_zero(state.uffd, first, done);
  if (error == EEXIST) {
    // Another thread restored it. Whoever sleeps on it may have missed that wake-up.
    sys::uffd_wake(state.uffd, first);
    done = page_size();
    return 0;
  }
  return error;
}

Outcome restore_run(RegionState& state, PageRange range, const std::byte* window, Holes holes,
                    std::size_t& filled) noexcept PAGETRAP_SIGNAL_SAFE {
  filled = 0;
  unsigned attempts = 0;
  while (filled < range.size_bytes()) {
    std::byte* const next = range.base + filled;
    const PageRange rest{next, Pages{(range.size_bytes() - filled) >> page_shift()}};
    std::size_t done = 0;
    const int error = restore_batch(state, rest, window + (next - state.range.base), holes, done);
    if (error == EAGAIN && ++attempts < kAttempts) {
      sys::yield();
    } else if (error != 0) {
      return Error{"restore of a lifted page", error, rest};
    }
    filled += done;
  }
  state.pages.set(range, PageState::read_write);
  return kDone;
}

// Pages of the window that are still there; all of it where the kernel cannot tell.
std::vector<PageRange> left_in(PageRange window) {
  std::vector<PageRange> runs;
  if (sys::scan_present(pagemap_descriptor(), window, runs)) return runs;
  return {window};
}

Outcome restore_rest(RegionState& state, PageRange window) noexcept {
  Outcome worst = kDone;
  try {
    for (const PageRange& run : left_in(window)) {
      std::size_t filled = 0;
      const PageRange home{state.range.base + (run.base - window.base), run.length};
      const Outcome outcome = restore_run(state, home, window.base, Holes::leave, filled);
      if (failed(outcome)) worst = outcome;
    }
  } catch (const std::bad_alloc&) {
    worst = Error{"Lift::finish", ENOMEM, window, "no memory for the list of pages"};
  }
  return worst;
}

// From the first lift on missing pages are trapped. A registration cannot drop one of its modes
// (registering again with fewer is a no-op), and ending it would walk all pages to clear
// write-protect marks, with nothing protected meanwhile. So a region with marks stays as it is, and
// pages nobody ever wrote are zero-filled by a fault of ours (fill_hole).
int trap_missing(RegionState& state) noexcept {
  return sys::uffd_register(state.uffd, state.range,
                            state.uffd_mode | UFFDIO_REGISTER_MODE_MISSING);
}

Outcome move_away(RegionState& state, PageRange window) noexcept {
  if (const int error = trap_missing(state))
    return Error{"UFFDIO_REGISTER for a lift", error, state.range};
  if (const Outcome outcome = state.pages.reset(PageState::missing); failed(outcome))
    return outcome;
  if (const int error = move_tables(state.range, window.base))
    return Error{"mremap MREMAP_DONTUNMAP", error, state.range,
                 error == EINVAL ? "the region must be one kernel mapping" : ""};
  return kDone;
}

// The window inherited the registration (EVENT_REMAP): reading a page there that nobody ever wrote
// is a missing fault. Without marks to clear, ending the registration costs nothing; with them the
// window becomes addresses of the region, whose faults fill_hole() serves.
Outcome quiet_window(RegionState& state, PageRange window) noexcept {
  if (state.uffd_mode == 0) {
    const int error = sys::uffd_unregister(state.uffd, window);
    return error == 0 ? kDone : Error{"UFFDIO_UNREGISTER of the window", error, window};
  }
  if (!publish_window(&state, window))
    return Error{"lift", ERANGE, window, "the window is beyond 48 bits of address"};
  return kDone;
}

}  // namespace

bool fill_hole(RegionState& state, PageRange page) noexcept PAGETRAP_SIGNAL_SAFE {
  std::size_t done = 0;
  int error = sys::uffd_zero(state.uffd, page, done);
  if (error == EEXIST) error = sys::uffd_wake(state.uffd, page);
  return error == 0 || error == EAGAIN;
}

bool restore_lifted(RegionState& state, PageRange page) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state.lift_phase.load(std::memory_order_acquire) == LiftPhase::moving) {
    sys::yield();  // the mover is inside mremap, or about to publish the window
    return true;
  }
  const std::byte* const window = state.lift_window.load(std::memory_order_acquire);
  // RACE finish() ended between the fault and here: what it did not restore is a hole.
  if (window == nullptr) return fill_hole(state, page);
  std::size_t filled = 0;
  return !failed(restore_run(state, page, window, Holes::fill, filled));
}

Result<Lift> Region::lift() {
  if (state_ == nullptr) return Error{"lift", EBADF, {}, "the Region is empty"};
  RegionState& state = *state_;
  if (!state.options.liftable)
    return Error{"lift", ENOTSUP, state.range, "create the region with options.liftable"};
  std::unique_lock guard(state.control);
  if (state.lift_phase.load() != LiftPhase::none)
    return Error{"lift", EALREADY, state.range, "finish the lift that is under way first"};
  sys::Mapping::Request request;
  request.size_bytes = state.range.size_bytes();
  request.prot = PROT_NONE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  request.alignment = kSubtree;
  auto window = sys::Mapping::create(request);
  if (!window) return window.error();
  const std::uint64_t started = sys::monotonic_nanoseconds();
  // Before the move no page can be missing; after it all are, and nobody can tell what was in them
  // until the window is published.
  state.lift_phase.store(LiftPhase::moving, std::memory_order_seq_cst);
  if (const Outcome outcome = move_away(state, window->range()); failed(outcome)) {
    // Nothing moved. The table forgot which pages were protected; the kernel did not, and their
    // faults are still delivered.
    static_cast<void>(state.pages.reset(PageState::read_write));
    state.lift_phase.store(LiftPhase::none, std::memory_order_release);
    return outcome;
  }
  const Outcome outcome = quiet_window(state, window->range());
  state.lift_window.store(window->data(), std::memory_order_release);
  state.lift_phase.store(LiftPhase::lifted, std::memory_order_release);
  Lift lift(&state, window->release());
  trace::record(trace::Kind::lift, state.range.base, sys::monotonic_nanoseconds() - started);
  guard.unlock();  // `lift` locks it when it ends, which is here if the window is not usable
  if (failed(outcome)) return outcome;
  return lift;
}

Lift::Lift(Lift&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)), window_(other.window_) {}

// Errors of finish() are for those who call it; what it can refuse is memory for page tables.
Lift::~Lift() { static_cast<void>(finish()); }

const std::byte* Lift::at(const void* in_region) const noexcept PAGETRAP_SIGNAL_SAFE {
  return window_.base + (static_cast<const std::byte*>(in_region) - state_->range.base);
}

Result<Pages> Lift::restore(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state_ == nullptr) return Error{"Lift::restore", EBADF, range, "the lift is finished"};
  if (!state_->range.contains(range) || range.empty())
    return Error{"Lift::restore", EINVAL, range, "not pages of the region"};
  std::size_t filled = 0;
  const Outcome outcome = restore_run(*state_, range, window_.base, Holes::fill, filled);
  if (failed(outcome)) return outcome;
  return pages_for(filled);
}

Result<Done> Lift::finish() noexcept {
  if (state_ == nullptr) return Done{};
  RegionState& state = *std::exchange(state_, nullptr);
  Outcome worst = restore_rest(state, window_);
  if (failed(worst)) {
    // The window keeps what could not be put back; nothing is lost, and faults still find it.
    state_ = &state;
    return worst;
  }
  const std::lock_guard guard(state.control);
  if (!state.wants(FaultKind::missing)) {
    // The holes become plain memory again, or are filled one by one: see trap_missing().
    if (state.uffd_mode == 0) {
      if (const int error = sys::uffd_unregister(state.uffd, state.range))
        worst = Error{"UFFDIO_UNREGISTER after a lift", error, state.range};
    }
    static_cast<void>(state.pages.reset(PageState::read_write));
  }
  if (state.uffd_mode != 0) withdraw_window(window_);
  state.lift_window.store(nullptr, std::memory_order_release);
  state.lift_phase.store(LiftPhase::none, std::memory_order_release);
  // RACE a thread that read lift_window before is still copying from the window.
  state.in_flight.wait();
  ::munmap(window_.base, window_.size_bytes());
  return as_result(worst);
}

}  // namespace v0
}  // namespace pagetrap
