// Filling pages: the faulted one and those around it, or a run that nobody waits for.
#pragma once

#include "pager/paged_region.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

enum class Filled : std::uint8_t {
  done,
  look_again,  // the page's word has changed, or its filling was put off
  failed,      // its source cannot, or the kernel
};

/// `before`: the page's word, absent.
Filled fill(PagedRegion& region, std::uint64_t index, PageWord before, bool write,
            Errand errand) noexcept PAGETRAP_SIGNAL_SAFE;

/// What is absent of [first, first + count). `evicts`: for what is in the way; else as far as room
/// is free. Returns how many pages it filled; stops at the first failure, or when `*given_up`.
std::size_t fill_ahead(PagedRegion& region, std::uint64_t first, std::size_t count, bool evicts,
                       const std::atomic<bool>* given_up = nullptr) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
