// Lift: a whole region's page tables moved aside in constant time.
//
// mremap(MREMAP_DONTUNMAP) moves the page tables to a window of the same size. With userfaultfd's
// EVENT_REMAP and 1 GiB alignment the kernel moves whole subtrees: tens of microseconds at any
// size. The old place then faults `missing`, also for system calls, and no thread had to cooperate.
#pragma once

#include <cstddef>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/vm/region.hpp>

namespace pagetrap {
inline namespace v0 {

/// The lifted pages. Owns the window. One at a time per Region, which must outlive it.
///
/// While it lives the region faults `missing`. A handler that asked for missing faults decides what
/// to supply, usually by restore(); without one, or if it did not ask for them, pagetrap restores
/// the page touched. Faults before lift() has returned wait for it. Reading the window is free.
/// Rights are not kept: a page that was protected comes back writable.
/// Destruction restores what is left.
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

  /// Restore everything that is left and unmap the window. Idempotent. Cost  grows with the pages
  /// still in the window (about 70 ns each).
  Result<Done> finish() noexcept;

 private:
  friend class Region;
  Lift(RegionState* state, PageRange window) noexcept : state_(state), window_(window) {}
  RegionState* state_ = nullptr;
  PageRange window_;
};

}  // namespace v0
}  // namespace pagetrap
