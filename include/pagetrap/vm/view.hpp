// View: a second mapping of a region's pages. MAP2 in Appel & Li 1991, section 2.
#pragma once

#include <cstddef>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {

/// Owns one mapping. Move-only; may outlive its Region. Made by Region::map_twice.
class PAGETRAP_API View {
 public:
  View() noexcept = default;
  ~View();
  View(View&& other) noexcept;
  View& operator=(View&& other) noexcept;
  View(const View&) = delete;
  View& operator=(const View&) = delete;

  [[nodiscard]] PageRange range() const noexcept PAGETRAP_SIGNAL_SAFE { return range_; }
  [[nodiscard]] std::byte* data() const noexcept PAGETRAP_SIGNAL_SAFE { return range_.base; }

  /// Where this view shows the byte that the region has at `in_region`. Precondition: inside it.
  [[nodiscard]] std::byte* at(const void* in_region) const noexcept PAGETRAP_SIGNAL_SAFE {
    return range_.base + (static_cast<const std::byte*>(in_region) - region_base_);
  }

 private:
  friend class Region;
  View(PageRange range, const std::byte* region_base) noexcept
      : range_(range), region_base_(region_base) {}
  PageRange range_;
  const std::byte* region_base_ = nullptr;
};

}  // namespace v0
}  // namespace pagetrap
