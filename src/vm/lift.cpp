// Lift: see lift.hpp. SOURCE mremap(2) MREMAP_DONTUNMAP (5.7); UFFD_FEATURE_EVENT_REMAP keeps the
// registration on both places, and lets the kernel move whole page-table subtrees (measured:
// without the event it clears the marks entry by entry, 3-4 ms per GiB).
#include <pagetrap/vm/lift.hpp>

#include <sys/mman.h>

#include <array>
#include <bit>
#include <cerrno>
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
#include "vm/dirty_tracker.hpp"
#include "vm/process_files.hpp"
#include "vm/region_state.hpp"
#include "vm/running.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

constexpr std::size_t kSubtree = std::size_t{1} << 30;  // what one upper page-table entry maps
alignas(4096) constexpr std::array<std::byte, 65536> kZeroPage{};  // of any page size

// Moves page tables in one step; or, where the kernel has made several mappings of the range
// (EFAULT: pages that came back by other ways than put_back() are not joined with those that did),
// in as many as it takes. Up to `moved` it is done, also on an error.
int move_tables(PageRange from, std::byte* to, std::byte*& moved) noexcept PAGETRAP_SIGNAL_SAFE {
  moved = from.base;
  const int error = sys::move_page_tables(from, to);
  if (error == 0) moved = from.end();
  if (error != EFAULT || from.length == Pages{1}) return error;
  // Powers of two, so that the parts are whole page tables as long as possible.
  const Pages front{std::bit_floor(from.length.count() - 1)};
  const PageRange rest{from.base + bytes(front), Pages{from.length.count() - front.count()}};
  if (const int refused = move_tables({from.base, front}, to, moved)) return refused;
  return move_tables(rest, to + bytes(front), moved);
}

// What to do about pages that the window does not have, because nobody ever wrote them.
enum class Holes : std::uint8_t { fill, leave };

std::byte* in_window(const RegionState& state, const std::byte* page, std::byte* window) noexcept
    PAGETRAP_SIGNAL_SAFE {
  return window + (page - state.range.base);
}

// Its pages need no way back: they are in the object, and supply(publish) maps them.
bool is_memory_object(const RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE {
  return state.options.backing != Backing::anonymous;
}

bool kernel_moves(const RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE {
  return (state.channel->features() & UFFD_FEATURE_MOVE) != 0;
}

// Zeroes for a page that has none yet: mapped, or copied where a write-protect mark stands in the
// empty entry (UFFDIO_ZEROPAGE takes such a mark for a page, UFFDIO_COPY does not). EEXIST: a page
// is there.
int zero_page(const RegionState& state, PageRange page, bool protect) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::size_t done = 0;
  if (!protect) {
    const int error = sys::uffd_zero(state.uffd, page, done);
    if (error != EEXIST) return error;
  }
  return sys::uffd_copy(state.uffd, page, kZeroPage.data(), protect ? UFFDIO_COPY_MODE_WP : 0,
                        done);
}

// One page, when moving it failed or the kernel cannot.
// A hole of the window must not be read: the window is registered like the region, and the reader
// may be the very thread that serves it. So ask the page table first, where a write-protect mark in
// an empty entry looks like a page that is swapped out, and is cleared for that.
int restore_page(const RegionState& state, PageRange page, std::byte* from, Holes holes) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::size_t done = 0;
  if ((state.uffd_mode & UFFDIO_REGISTER_MODE_WP) != 0) {
    // ENOENT: a fork()ed child's window, which is not registered and has no marks.
    const int error = sys::uffd_write_protect(state.uffd, {from, Pages{1}}, false);
    if (error != 0 && error != ENOENT) return error;
  }
  const auto there = sys::has_page(pagemap_descriptor(), from);
  if (there < 0) return -there;
  if (there > 0) return sys::uffd_copy(state.uffd, page, from, 0, done);
  return holes == Holes::fill ? zero_page(state, page, false) : 0;
}

// The beginning of `rest`, a page at least; `done` gets the bytes that need no more work.
int restore_some(const RegionState& state, PageRange rest, std::byte* from, Holes holes,
                 std::size_t& done) noexcept PAGETRAP_SIGNAL_SAFE {
  int error = 0;
  if (kernel_moves(state)) {
    const std::uint64_t mode = holes == Holes::leave ? UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES : 0;
    error = sys::uffd_move(state.uffd, rest, from, mode, done);
    if (done != 0 || error == 0) return 0;
  } else if (holes == Holes::leave) {
    // Pages known to be there: see left_in().
    error = sys::uffd_copy(state.uffd, rest, from, 0, done);
    if (done != 0 || error == 0) return 0;
  }
  const PageRange first{rest.base, Pages{1}};
  // Moving refuses pages that are pinned or shared with a fork()ed child (EBUSY, EINVAL), holes
  // (ENOENT), and marks without a page (EFAULT).
  if (error != EEXIST && error != EAGAIN) error = restore_page(state, first, from, holes);
  // Another thread restored it. Whoever sleeps on it may have missed that wake-up.
  if (error == EEXIST) error = sys::uffd_wake(state.uffd, first);
  if (error == 0) done = page_size();
  return error;
}

// RACE the table calls a page filled before it is (see for_runs in userfaultfd.cpp), and pages that
// somebody has protected since they came back keep what it says of them.
void name_restored(RegionState& state, PageRange range, PageState after) noexcept
    PAGETRAP_SIGNAL_SAFE {
  for (std::byte* next = range.base; next < range.end();) {
    const PageRange run = state.pages.run(next, range.end());
    if (state.pages.get(next) == PageState::missing) state.pages.set(run, after);
    next = run.end();
  }
}

Outcome restore_run(RegionState& state, PageRange range, std::byte* window, Holes holes,
                    std::size_t& filled) noexcept PAGETRAP_SIGNAL_SAFE {
  filled = 0;
  sys::Patience patience;
  const Opening opening(state.tracker, range);  // rights are not kept
  name_restored(state, range, PageState::read_write);
  while (filled < range.size_bytes()) {
    std::byte* const next = range.base + filled;
    const PageRange rest{next, Pages{(range.size_bytes() - filled) >> page_shift()}};
    std::size_t done = 0;
    const int error = restore_some(state, rest, in_window(state, next, window), holes, done);
    if (error != 0 && (error != EAGAIN || !state.channel->try_again(patience)))
      return Error{"restore of a lifted page", error, rest};
    filled += done;
  }
  return kDone;
}

// Pages of the window that are still there.
Result<std::vector<PageRange>> left_in(PageRange window) {
  std::vector<PageRange> runs;
  const auto found = sys::scan_present(pagemap_descriptor(), window, runs);
  if (!found) return found.error();
  return runs;
}

Outcome restore_rest(RegionState& state, PageRange window) noexcept {
  try {
    const auto left = left_in(window);
    if (!left) return left.error();
    Outcome worst = kDone;
    for (const PageRange& run : *left) {
      std::size_t filled = 0;
      const PageRange home{state.range.base + (run.base - window.base), run.length};
      const Outcome outcome = restore_run(state, home, window.base, Holes::leave, filled);
      if (failed(outcome)) worst = outcome;
    }
    return worst;
  } catch (const std::bad_alloc&) {
    return Error{"Lift::finish", ENOMEM, window, "no memory for the list of pages"};
  }
}

// From the first lift on missing pages are trapped. A registration cannot drop one of its modes
// (registering again with fewer is a no-op), and ending it would walk all pages to clear
// write-protect marks, with nothing protected meanwhile. So a region with marks stays as it is, and
// pages nobody ever wrote are zero-filled by a fault of ours (fill_hole).
int trap_missing(RegionState& state) noexcept {
  const int error =
      sys::uffd_register(state.uffd, state.range, state.uffd_mode | UFFDIO_REGISTER_MODE_MISSING);
  if (error == 0) state.traps_missing.store(true, std::memory_order_release);
  return error;
}

// The phase is `moving`: faults run again until it is over, and handlers that began before have
// ended. None may be running: it could be in the thread that must read the remap event.
//
// A memory object's handlers run in the faulting threads, and none reads that event. They are not
// waited for: the caller may hold a thread that is in one. What a handler publishes that began
// before is the contents of the object all the same; whether they should be seen is its own affair.
// Nor are those waited for that supply from a window of the caller's: the same.
Outcome move_away(RegionState& state, PageRange window, Pages front, bool waits) noexcept {
  if (!is_memory_object(state)) {
    if (const int error = trap_missing(state))
      return Error{"UFFDIO_REGISTER for a lift", error, state.range};
    if (waits) wait_for_handlers(state);
  }
  std::byte* moved = nullptr;
  if (const int error = move_tables({state.range.base, front}, window.base, moved)) {
    // What has gone comes back the same way; nobody has seen it gone, since faults wait.
    const PageRange gone{window.base,
                         pages_for(static_cast<std::size_t>(moved - state.range.base))};
    if (!gone.empty()) static_cast<void>(move_tables(gone, state.range.base, moved));
    return Error{"mremap MREMAP_DONTUNMAP", error, state.range,
                 error == ENOMEM ? "too many mappings (vm.max_map_count), or no memory" : ""};
  }
  const PageState empty = is_memory_object(state) ? PageState::evicted : PageState::missing;
  if (front == state.range.length) {
    state.pages.reset(empty);
  } else {
    state.pages.set({state.range.base, front}, empty);
  }
  return kDone;
}

// The window inherited the registration (EVENT_REMAP): reading a page there that nobody ever wrote
// is a missing fault. Without marks to clear, ending the registration costs nothing; with them the
// window becomes addresses of the region, whose faults fill_hole() serves.
Outcome quiet_window(RegionState& state, PageRange window) noexcept {
  if (is_memory_object(state)) return kDone;  // nobody reads it
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
  const bool protect = state.range.contains(page.base) &&
                       state.pages.get(page.base) == PageState::read &&
                       (state.uffd_mode & UFFDIO_REGISTER_MODE_WP) != 0;
  const Opening opening(!protect && state.range.contains(page.base) ? state.tracker : nullptr,
                        page);
  int error = zero_page(state, page, protect);
  if (error == EEXIST) error = sys::uffd_wake(state.uffd, page);
  return error == 0 || error == EAGAIN;
}

bool restore_lifted(RegionState& state, PageRange page) noexcept PAGETRAP_SIGNAL_SAFE {
  std::byte* const window = state.lift_window.load(std::memory_order_acquire);
  // RACE finish() ended between the fault and here: what it did not restore is a hole.
  if (window == nullptr) return fill_hole(state, page);
  std::size_t filled = 0;
  return !failed(restore_run(state, page, window, Holes::fill, filled));
}

Result<Lift> Region::lift() {
  if (state_ == nullptr) return Error{"lift", EBADF, {}, "the Region is empty"};
  return lift(state_->range.length);
}

Result<Lift> Region::lift(Pages front) {
  if (state_ == nullptr) return Error{"lift", EBADF, {}, "the Region is empty"};
  return Lift::begin(*state_, front, nullptr);
}

Result<Lift> Region::lift_into(std::byte* window) {
  if (state_ == nullptr) return Error{"lift_into", EBADF, {}, "the Region is empty"};
  RegionState& state = *state_;
  if (window == nullptr || reinterpret_cast<std::uintptr_t>(window) % kSubtree != 0)
    return Error{"lift_into", EINVAL, state.range, "the window must be aligned to 1 GiB"};
  if (is_memory_object(state) || !state.wants(FaultKind::missing))
    return Error{"lift_into", ENOTSUP, state.range,
                 "for private memory whose handler asks for missing faults"};
  return Lift::begin(state, state.range.length, window);
}

// `into`: the caller's window, or null.
Result<Lift> Lift::begin(RegionState& state, Pages front, std::byte* into) {
  if (front == Pages{0} || front > state.range.length)
    return Error{"lift", EINVAL, state.range, "the region has not so many pages, or none is asked"};
  if (!state.options.liftable)
    return Error{"lift", ENOTSUP, state.range, "create the region with options.liftable"};
  if (inside_handler() || state.channel->served_here())
    return Error{"lift", EDEADLK, state.range, "not from inside a fault handler"};
  std::unique_lock guard(state.control);
  if (state.lift_phase.load() != LiftPhase::none)
    return Error{"lift", EALREADY, state.range, "finish the lift that is under way first"};
  if (pagemap_descriptor() < 0)
    return Error{"open /proc/self/pagemap", EACCES, state.range,
                 "lift looks there for what to restore: /proc must be mounted and readable"};
  sys::Mapping window;
  PageRange place{into, state.range.length};
  if (into == nullptr) {
    sys::Mapping::Request request;
    request.size_bytes = state.range.size_bytes();
    request.prot = PROT_NONE;
    request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    request.alignment = kSubtree;
    auto made = sys::Mapping::create(request);
    if (!made) return made.error();
    window = std::move(*made);
    place = window.range();
  }
  const std::uint64_t started = sys::monotonic_nanoseconds();
  // After the move all pages are missing, and nobody can tell what was in them until the window is
  // published.
  state.lift_phase.store(LiftPhase::moving, std::memory_order_seq_cst);
  if (const Outcome outcome = move_away(state, place, front, into == nullptr); failed(outcome)) {
    state.lift_phase.store(LiftPhase::none, std::memory_order_release);
    return outcome;
  }
  // Nobody reads what is not there in a caller's.
  const Outcome outcome = into == nullptr ? quiet_window(state, place) : kDone;
  state.lift_window.store(place.base, std::memory_order_release);
  state.lift_phase.store(LiftPhase::lifted, std::memory_order_release);
  static_cast<void>(window.release());
  Lift lift(&state, place, front, into == nullptr ? Owner::lift : Owner::caller);
  trace::record(trace::Kind::lift, state.range.base, sys::monotonic_nanoseconds() - started);
  guard.unlock();  // `lift` locks it when it ends, which is here if the window is not usable
  if (failed(outcome)) return outcome;
  return lift;
}

Lift::Lift(Lift&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)),
      window_(other.window_),
      front_(other.front_),
      owner_(other.owner_) {}

// Errors of finish() are for those who call it; what it can refuse is memory for page tables.
Lift::~Lift() { static_cast<void>(finish()); }

const std::byte* Lift::at(const void* in_region) const noexcept PAGETRAP_SIGNAL_SAFE {
  return window_.base + (static_cast<const std::byte*>(in_region) - state_->range.base);
}

namespace {

// Counts a user of the window in, and tells where it is. RACE finish() in another thread unmaps the
// window when all that are counted in have left, and takes it away before.
class UsesWindow {
 public:
  explicit UsesWindow(RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE
      : state_(state),
        phase_(state.in_flight.enter()),
        window_(state.lift_window.load(std::memory_order_seq_cst)) {}
  ~UsesWindow() PAGETRAP_SIGNAL_SAFE { state_.in_flight.leave(phase_); }
  UsesWindow(const UsesWindow&) = delete;
  UsesWindow& operator=(const UsesWindow&) = delete;
  [[nodiscard]] std::byte* base() const noexcept PAGETRAP_SIGNAL_SAFE { return window_; }

 private:
  RegionState& state_;
  unsigned phase_;
  std::byte* window_;
};

Error finished(const char* operation, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  return Error{operation, EBADF, range, "the lift is finished"};
}

// Nobody but us looks at the window, so the pages are protected before anybody can write to them.
Outcome protect_in_window(RegionState& state, PageRange there) noexcept PAGETRAP_SIGNAL_SAFE {
  if ((state.uffd_mode & UFFDIO_REGISTER_MODE_WP) == 0 || state.dirty_form == DirtyForm::scan ||
      state.dirty_form == DirtyForm::ring)
    return Error{"Lift::put_back", ENOTSUP, there,
                 "to protect: the region's handler must ask for write_protected faults"};
  sys::Patience patience;  // EAGAIN: while an event is unread
  for (;;) {
    const int error = sys::uffd_write_protect(state.uffd, there, true);
    if (error == 0) return kDone;
    if (error != EAGAIN || !state.channel->try_again(patience))
      return Error{"UFFDIO_WRITEPROTECT of a lifted range", error, there};
  }
}

// What of `there` has come back already goes into the window again: whoever tries once more
// replaces all of the range. It was refused for lack of mappings, and gives some free: tried until
// it works.
void undo_part(PageRange there, std::byte* moved, std::byte* home) noexcept PAGETRAP_SIGNAL_SAFE {
  std::byte* next = home;
  std::byte* const end = home + (moved - there.base);
  while (next < end) {
    std::byte* undone = nullptr;
    const PageRange rest{next, pages_for(static_cast<std::size_t>(end - next))};
    if (move_tables(rest, there.base + (next - home), undone) != 0) sys::yield();
    next = undone;
  }
}

Outcome check_part(const RegionState* state, Pages front, const char* operation,
                   PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state == nullptr) return finished(operation, range);
  if (!PageRange{state->range.base, front}.contains(range) || range.empty())
    return Error{operation, EINVAL, range, "not pages that were lifted"};
  return kDone;
}

}  // namespace

Result<Pages> Lift::restore(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  RegionState* const state = std::atomic_ref<RegionState*>(state_).load(std::memory_order_acquire);
  if (const Outcome wrong = check_part(state, front_, "Lift::restore", range); failed(wrong))
    return wrong;
  if (is_memory_object(*state) || owner_ == Owner::caller)
    return Error{"Lift::restore", ENOTSUP, range,
                 "supply() maps a memory object's pages, or copies from the caller's window"};
  const UsesWindow window(*state);
  if (window.base() == nullptr) return finished("Lift::restore", range);
  std::size_t filled = 0;
  const Outcome outcome = restore_run(*state, range, window.base(), Holes::fill, filled);
  if (failed(outcome)) return outcome;
  return pages_for(filled);
}

Result<Done> Lift::put_back(PageRange range, Access access) noexcept PAGETRAP_SIGNAL_SAFE {
  RegionState* const state = std::atomic_ref<RegionState*>(state_).load(std::memory_order_acquire);
  if (const Outcome wrong = check_part(state, front_, "Lift::put_back", range); failed(wrong))
    return wrong;
  if (!state->wants(FaultKind::missing))
    return Error{"Lift::put_back", ENOTSUP, range,
                 "the region's handler must ask for missing faults"};
  if (state->channel->served_here())
    return Error{"Lift::put_back", EDEADLK, range,
                 "a handler thread would wait for itself to read the remap event"};
  const UsesWindow window(*state);
  if (window.base() == nullptr) return finished("Lift::put_back", range);
  const PageRange there{in_window(*state, range.base, window.base()), range.length};
  if (access == Access::read) {
    if (const Outcome outcome = protect_in_window(*state, there); failed(outcome)) return outcome;
  }
  // RACE the table calls a page filled, or protected, before it is: see for_runs() in
  // userfaultfd.cpp. Marks come back with the tables, so a tracker need not know.
  name_restored(*state, range, filled_state(access));
  std::byte* moved = nullptr;
  if (const int error = move_tables(there, range.base, moved)) {
    undo_part(there, moved, range.base);
    return Error{"mremap of a lifted range", error, range};
  }
  // Sleepers found nothing there when they looked; moving tables wakes nobody.
  sys::uffd_wake(state->uffd, range);
  return Done{};
}

Result<std::size_t> Lift::pages(PageRange range, LiftedPages which,
                                std::span<PageRange> out) noexcept PAGETRAP_SIGNAL_SAFE {
  RegionState* const state = std::atomic_ref<RegionState*>(state_).load(std::memory_order_acquire);
  if (const Outcome wrong = check_part(state, front_, "Lift::pages", range); failed(wrong))
    return wrong;
  if (which != LiftedPages::there && state->dirty_form != DirtyForm::scan)
    return Error{"Lift::pages", ENOTSUP, range, "create the region with DirtyForm::scan"};
  const UsesWindow window(*state);
  if (window.base() == nullptr) return finished("Lift::pages", range);
  const std::ptrdiff_t home = state->range.base - window.base();
  std::size_t count = 0;
  std::byte* next = range.base;
  while (next < range.end()) {
    if (count == out.size()) return Error{"Lift::pages", ENOBUFS, range, "more runs than room"};
    const PageRange rest{next - home, pages_for(static_cast<std::size_t>(range.end() - next))};
    std::size_t found = 0;
    std::byte* scanned = nullptr;
    const auto how = which == LiftedPages::written ? sys::PagesThat::were_written
                     : which == LiftedPages::armed ? sys::PagesThat::are_there_to_arm
                                                   : sys::PagesThat::are_there;
    if (const int error =
            sys::scan_pages(pagemap_descriptor(), rest, how, out.subspan(count), found, scanned))
      return Error{"PAGEMAP_SCAN of a lifted range", error, range};
    for (const PageRange& run : out.subspan(count, found)) {
      const PageRange in_region{run.base + home, run.length};
      if (count > 0 && out[count - 1].end() == in_region.base) {
        out[count - 1].length = Pages{out[count - 1].length.count() + run.length.count()};
      } else {
        out[count++] = in_region;
      }
    }
    next = scanned + home;
  }
  return count;
}

Result<Done> Lift::fill(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  RegionState* const state = std::atomic_ref<RegionState*>(state_).load(std::memory_order_acquire);
  if (const Outcome wrong = check_part(state, front_, "Lift::fill", range); failed(wrong))
    return wrong;
  const UsesWindow window(*state);
  if (window.base() == nullptr) return finished("Lift::fill", range);
  std::byte* const first = in_window(*state, range.base, window.base());
  sys::Patience patience;
  for (std::size_t at = 0; at < range.size_bytes();) {
    std::size_t done = 0;
    const int error =
        sys::uffd_copy(state->uffd, {first + at, Pages{1}}, kZeroPage.data(), 0, done);
    if (error == EAGAIN && state->channel->try_again(patience)) continue;
    if (error != 0 && error != EEXIST) return Error{"UFFDIO_COPY to a window", error, range};
    at += page_size();
  }
  return Done{};
}

// Nothing is restored.
Result<Done> Lift::drop_window(RegionState& state) noexcept {
  const std::lock_guard guard(state.control);
  state.lift_window.store(nullptr, std::memory_order_seq_cst);
  state.lift_phase.store(LiftPhase::none, std::memory_order_release);
  wait_for_handlers(state);  // RACE one may be looking at its pages()
  if (owner_ == Owner::lift) {
    ::munmap(window_.base, window_.size_bytes());
    return Done{};
  }
  // In one step: the addresses stay the caller's.
  void* const renewed = ::mmap(window_.base, window_.size_bytes(), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (renewed == MAP_FAILED) return Error{"mmap of a window", errno, window_};
  return Done{};
}

Result<Done> Lift::finish() noexcept {
  if (state_ == nullptr) return Done{};
  const std::atomic_ref<RegionState*> mine(state_);
  RegionState& state = *mine.exchange(nullptr);
  if (is_memory_object(state) || owner_ == Owner::caller) return drop_window(state);
  Outcome worst = restore_rest(state, {window_.base, front_});
  if (failed(worst)) {
    // The window keeps what could not be put back; nothing is lost, and faults still find it.
    mine.store(&state);
    return worst;
  }
  const std::lock_guard guard(state.control);
  if (!state.wants(FaultKind::missing)) {
    // The holes become plain memory again, or are filled one by one: see trap_missing().
    if (state.uffd_mode == 0) {
      if (const int error = sys::uffd_unregister(state.uffd, state.range)) {
        worst = Error{"UFFDIO_UNREGISTER after a lift", error, state.range};
      } else {
        state.traps_missing.store(false, std::memory_order_release);
      }
    }
    state.pages.rename_untouched(PageState::read_write);
  }
  if (state.uffd_mode != 0) withdraw_window(window_);
  state.lift_window.store(nullptr, std::memory_order_seq_cst);
  state.lift_phase.store(LiftPhase::none, std::memory_order_release);
  // RACE a thread that read lift_window before is still copying from the window.
  wait_for_handlers(state);
  ::munmap(window_.base, window_.size_bytes());
  return as_result(worst);
}

}  // namespace v0
}  // namespace pagetrap
