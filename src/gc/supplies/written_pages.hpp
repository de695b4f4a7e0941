// Which pages were written: by the page tables' marks, or by a table of the supply's own.
#pragma once

#include <cerrno>
#include <cstddef>
#include <span>

#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>

#include "gc/outcome.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// The runs of those pages of `part` whose number, from its first on, `holds`. ENOBUFS: more runs
/// than room.
template <class Holds>
Result<std::size_t> runs_where(PageRange part, std::span<PageRange> out, Holds holds) noexcept {
  std::size_t count = 0;
  for (std::size_t i = 0; i < part.length.count(); ++i) {
    if (!holds(i)) continue;
    std::byte* const page = part.base + bytes(Pages{i});
    if (count > 0 && out[count - 1].end() == page) {
      out[count - 1].length = Pages{out[count - 1].length.count() + 1};
    } else {
      if (count == out.size()) return Error{"gc", ENOBUFS, part, "more runs than room"};
      out[count++] = {page, Pages{1}};
    }
  }
  return count;
}

/// See PageSupplier::find_written(); of memory registered with DirtyForm::scan.
Outcome find_written_pages(PageRange part, std::span<PageRange> out, std::size_t& found) noexcept;

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
