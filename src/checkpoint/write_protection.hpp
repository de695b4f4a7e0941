// WriteProtection: what the cuts have in common that protect pages in place.
#pragma once

#include <cstddef>
#include <span>

#include "checkpoint/cut_method.hpp"
#include "checkpoint/page_map.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

class WriteProtection : public CutMethod {
 public:
  explicit WriteProtection(Region& region) noexcept : region_(region) {}

  [[nodiscard]] bool protects() const noexcept PAGETRAP_SIGNAL_SAFE override { return true; }
  Result<std::size_t> pages(PageRange part, bool, std::span<PageRange> out) noexcept
      PAGETRAP_SIGNAL_SAFE override {
    return page_map_.scan(part, sys::PagesThat::are_there, out);
  }
  Result<Done> release(PageRange part) noexcept PAGETRAP_SIGNAL_SAFE override {
    return region_.unprotect(part);
  }

 protected:
  Result<Done> open_page_map() { return page_map_.open(); }
  /// On an error some of them may be protected: they are opened when they are touched.
  Result<Done> protect(std::span<const PageRange> open) noexcept {
    return region_.protect(open, Access::read);
  }
  [[nodiscard]] Region& region() noexcept PAGETRAP_SIGNAL_SAFE { return region_; }
  [[nodiscard]] const Region& region() const noexcept PAGETRAP_SIGNAL_SAFE { return region_; }

 private:
  Region& region_;
  PageMap page_map_;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
