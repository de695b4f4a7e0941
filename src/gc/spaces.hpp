// Spaces: one range of addresses, cut into the old space, leaves and the nursery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <pagetrap/core/units.hpp>

#include "gc/outcome.hpp"
#include "gc/page.hpp"
#include "gc/supplier.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// Consecutive pages.
struct PageSpan {
  PageIndex begin = 0;
  PageIndex end = 0;
  [[nodiscard]] std::size_t size() const noexcept { return end - begin; }
};

/// Set up once, and constant from then on.
class Spaces {
 public:
  Outcome create(std::size_t limit_bytes, std::size_t nursery_bytes, PageSupply which);

  /// Once, after create(): `make(supplier)` returns what stands before it from now on.
  template <class Make>
  Outcome supply_through(Make make) {
    auto supplier = make(std::move(supplier_));
    if (!supplier) return supplier.error();
    supplier_ = std::move(*supplier);
    return kDone;
  }

  // In this order in memory. The first two are supplied: closed and opened.
  PageSpan old;
  PageSpan large;
  PageSpan leaf;
  PageSpan large_leaf;
  PageSpan nursery;

  [[nodiscard]] PageSupplier& supplier() const noexcept PAGETRAP_SIGNAL_SAFE { return *supplier_; }
  [[nodiscard]] std::byte* base() const noexcept PAGETRAP_SIGNAL_SAFE { return base_; }
  /// How far a pointer is into the heap; beyond size() if it is not in it.
  [[nodiscard]] std::uintptr_t offset(std::uintptr_t address) const noexcept PAGETRAP_SIGNAL_SAFE {
    return address - reinterpret_cast<std::uintptr_t>(base_);
  }
  [[nodiscard]] std::uintptr_t size() const noexcept PAGETRAP_SIGNAL_SAFE { return size_; }
  [[nodiscard]] static PageIndex page_at(std::uintptr_t offset) noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<PageIndex>(offset / kPageBytes);
  }
  [[nodiscard]] PageInfo& info(PageIndex page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return pages_[page];
  }
  [[nodiscard]] bool is_supplied(PageIndex page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return page < large.end;
  }

  /// As the program sees it; may be closed.
  [[nodiscard]] std::byte* address(PageIndex page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return base_ + std::size_t{page} * kPageBytes;
  }
  /// As the collector sees it.
  [[nodiscard]] std::byte* view(PageIndex page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return address(page) + (is_supplied(page) ? view_ : 0);
  }
  [[nodiscard]] std::byte* view_at(std::uintptr_t offset) const noexcept PAGETRAP_SIGNAL_SAFE {
    return base_ + offset + (offset < supplied_bytes_ ? view_ : 0);
  }
  [[nodiscard]] PageRange range(PageIndex first, std::size_t count) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return {address(first), Pages{count}};
  }

 private:
  std::byte* base_ = nullptr;
  std::uintptr_t size_ = 0;
  std::uintptr_t supplied_bytes_ = 0;
  std::ptrdiff_t view_ = 0;
  PageInfo* pages_ = nullptr;
  sys::Mapping plain_;  // leaves and the nursery
  sys::Mapping table_;
  std::unique_ptr<PageSupplier> supplier_;
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
