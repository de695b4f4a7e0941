// CutMethod: how one region is cut, read, and given back part by part. A new method is one file
// that implements this, and a line in make_cut_method().
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include <pagetrap/checkpoint/checkpointer.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/vm/region.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

class CutMethod {
 public:
  virtual ~CutMethod() = default;

  /// Whether pages are write-protected in place when they are cut: they can be read there, stay so
  /// when they have been copied, and any thread of ours may open them. So what is still protected
  /// at the next cut has not been written.
  [[nodiscard]] virtual bool protects() const noexcept PAGETRAP_SIGNAL_SAFE { return false; }

  /// For tests: that cut, however little is to be cut.
  virtual void always_lift(bool) noexcept {}
  /// From its return on no thread changes `part` of the region, which begins at its front, but
  /// through release(). Threads that try fault. Nothing else of the region is looked at. `open`:
  /// the runs of `part` that are not protected already; of interest where protects().
  virtual Result<Done> take(PageRange part, std::span<const PageRange> open) = 0;
  /// What take() has moved away, to come back by bring_back() before it is copied. Empty: nothing.
  [[nodiscard]] virtual PageRange away() const noexcept PAGETRAP_SIGNAL_SAFE { return {}; }
  /// Brings a part of away() back, protected. read_write: the kernel refused time after time, and
  /// all that was left was to give the pages back as they are. Not in a handler thread.
  virtual Result<Access> bring_back(PageRange part) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Where the contents of the page at `address` can be read until it is released.
  [[nodiscard]] virtual const std::byte* source(const std::byte* address) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return address;
  }
  /// The runs of pages of `part` that have contents; or, of them, those written since the last time
  /// that this was asked of them (either way they count as asked; not where protects()). Half the
  /// pages are room enough.
  virtual Result<std::size_t> pages(PageRange part, bool written, std::span<PageRange> out) noexcept
      PAGETRAP_SIGNAL_SAFE = 0;
  /// Threads may write to `part`.
  virtual Result<Done> release(PageRange part) noexcept PAGETRAP_SIGNAL_SAFE = 0;
  /// A cut that was taken is given up; nobody has seen it. What was protected before may be so
  /// still.
  virtual Result<Done> undo(PageRange part) noexcept = 0;
  /// All has been released, or may stay protected.
  virtual Result<Done> finish() noexcept = 0;
};

/// What `automatic` is here: each cut that the options allow is tried on a small region. About 30
/// ms.
Result<Cut> choose_cut(const CheckpointerOptions& options);

struct CutPlan {
  RegionOptions region;  // what a region must be made with
  bool keeps_protected =
      false;  // what has been copied, so that the next cut knows what was written
};
/// ENOTSUP: not on this machine, or not for this user.
Result<CutPlan> plan_for(Cut cut, const CheckpointerOptions& options);

/// `region` is borrowed, made as plan_for() says.
std::unique_ptr<CutMethod> make_cut_method(Cut cut, Region& region);
std::unique_ptr<CutMethod> make_lift_cut(Region& region);
std::unique_ptr<CutMethod> make_window_cut(Region& region);
std::unique_ptr<CutMethod> make_write_protect_cut(Region& region);
std::unique_ptr<CutMethod> make_key_cut(Region& region);

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
