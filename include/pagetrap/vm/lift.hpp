// Lift: a whole region's page tables moved aside in constant time.
//
// mremap(MREMAP_DONTUNMAP) moves the page tables to a window of the same size. With userfaultfd's
// EVENT_REMAP and 1 GiB alignment the kernel moves whole subtrees: tens of microseconds at any
// size. The old place then faults `missing`, also for system calls, and no thread had to cooperate.
//
// A memory object (Backing::memfd) faults `minor` after it, and needs no way back: its contents are
// in the object, and the handler supplies them by Supply::publish. The window only tells, by
// pages(), what was there and written; it may not be read. lift() does not wait for handlers then.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/vm/region.hpp>

namespace pagetrap {
inline namespace v0 {

/// Which pages of a window.
enum class LiftedPages : std::uint8_t {
  there,    // all that have contents; the others were never written
  armed,    // the same, and all of them are armed. Needs DirtyForm::scan
  written,  // those of them written since the region was armed last; they are armed again. Needs
            // DirtyForm::scan
};

/// The lifted pages. Owns the window. One at a time per Region, which must outlive it.
///
/// While it lives the region faults `missing`. A handler that asked for missing faults decides what
/// to supply, usually by restore(); without one, or if it did not ask for them, pagetrap restores
/// the page touched. Faults before lift() has returned wait for it. Reading the window is free.
/// restore() does not keep rights: a page that was protected comes back writable.
/// Destruction restores what is left. Of a memory object nothing is restored: at(), restore() and
/// put_back() are not for it. A window of the caller's (lift_into) is memory to work in: supply()
/// copies from it what the region is to have.
class PAGETRAP_API Lift {
 public:
  ~Lift();
  Lift(Lift&& other) noexcept;
  Lift& operator=(Lift&&) = delete;
  Lift(const Lift&) = delete;
  Lift& operator=(const Lift&) = delete;

  /// The private copy of the address space: the byte that was at `in_region`.
  [[nodiscard]] const std::byte* at(const void* in_region) const noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] PageRange window() const noexcept PAGETRAP_SIGNAL_SAFE { return window_; }

  /// Give `range` of the region its pages back (moved where the kernel has UFFDIO_MOVE, else
  /// copied). Pages that are present already are left. Returns how many it restored. Signals safe;
  /// any number of threads at once.
  Result<Pages> restore(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;

  /// Give `range` its page tables back in one step: contents, marks and rights are as they were,
  /// and nothing is copied. For handlers that asked for missing faults and do not restore() by
  /// themselves: whatever came to be in `range` since the lift is REPLACED.
  /// `access`  read: all of it is protected when it is seen again, so that the first write to each
  ///           page faults. Needs FaultKind::write_protected.
  /// While it runs, whatever a handler thread of the region tries fails with EAGAIN, and its fault
  /// is raised again, whatever it answers. Errors   EDEADLK: in a handler thread of the region.
  /// Signals  safe.  Cost  5 to 15 us for up to 2 MiB, 0.1 ms for 1 GiB (aligned to 2 MiB: whole
  /// page
  ///          tables move). To protect it: 20 to 30 ns a page.
  Result<Done> put_back(PageRange range, Access access = Access::read_write) noexcept
      PAGETRAP_SIGNAL_SAFE;

  /// Fills `out` with the sorted runs of pages of `range` that the window has, by their addresses
  /// in the region; returns how many. Only these may be read in the window by a thread that serves
  /// the region's faults: a page that nobody ever wrote is a fault there. Errors   ENOBUFS: more
  /// runs than `out` has room for (half the pages of `range` always do). Signals  safe.  Cost  5 us
  /// for 2 MiB.
  Result<std::size_t> pages(PageRange range, LiftedPages which, std::span<PageRange> out) noexcept
      PAGETRAP_SIGNAL_SAFE;

  /// Zeroes for pages of the window that have nothing, so that they can be written to there; others
  /// are left. `range` is of the region. For lift_into(), whose window faults where nothing is.
  /// Signals  safe.
  Result<Done> fill(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;

  /// Restore everything that is left and unmap the window. After lift_into() nothing is restored,
  /// and the window becomes empty memory of the caller's. Idempotent. Cost  grows with the pages
  /// still in the window (about 70 ns each).
  Result<Done> finish() noexcept;

 private:
  friend class Region;
  enum class Owner : std::uint8_t { lift, caller };
  Lift(RegionState* state, PageRange window, Pages front, Owner owner) noexcept
      : state_(state), window_(window), front_(front), owner_(owner) {}
  static Result<Lift> begin(RegionState& state, Pages front, std::byte* window);
  Result<Done> drop_window(RegionState& state) noexcept;
  RegionState* state_ = nullptr;
  PageRange window_;  // as large as the region, so that offsets are the same
  Pages front_;       // of it: what was lifted
  Owner owner_ = Owner::lift;
};

}  // namespace v0
}  // namespace pagetrap
