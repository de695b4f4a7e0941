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

  /// From its return on no thread changes `part` of the region but through release(). Threads that
  /// try fault. Nothing else of the region is looked at.
  virtual Result<Done> take(PageRange part) = 0;
  /// Where the contents of the page at `address` can be read until it is released.
  [[nodiscard]] virtual const std::byte* source(const std::byte* address) const noexcept
      PAGETRAP_SIGNAL_SAFE = 0;
  /// The runs of pages of `part` that have contents; or, of them, those written since the last time
  /// that this was asked of them (either way they count as asked). Half the pages are room enough.
  virtual Result<std::size_t> pages(PageRange part, bool written, std::span<PageRange> out) noexcept
      PAGETRAP_SIGNAL_SAFE = 0;
  /// Threads may use `part` again.
  virtual Result<Done> release(PageRange part) noexcept PAGETRAP_SIGNAL_SAFE = 0;
  /// All has been released.
  virtual Result<Done> finish() noexcept = 0;
};

/// What `automatic` is here: each cut that the options allow is tried on a small region. About 30
/// ms.
Result<Cut> choose_cut(const CheckpointerOptions& options);

/// What a region must be made with for `cut`. ENOTSUP: not on this machine, or not for this user.
Result<RegionOptions> region_options(Cut cut, const CheckpointerOptions& options);

/// `region` is borrowed, made with region_options().
std::unique_ptr<CutMethod> make_cut_method(Cut cut, Region& region);
std::unique_ptr<CutMethod> make_lift_cut(Region& region);
std::unique_ptr<CutMethod> make_write_protect_cut(Region& region);
std::unique_ptr<CutMethod> make_key_cut(Region& region);

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
