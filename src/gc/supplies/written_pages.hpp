// PageSupplier::find_written() by the page tables' marks.
#pragma once

#include <cstddef>
#include <span>

#include <pagetrap/core/units.hpp>

#include "gc/outcome.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// See PageSupplier::find_written(); of memory registered with DirtyForm::scan.
Outcome find_written_pages(PageRange part, std::span<PageRange> out, std::size_t& found) noexcept;

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
