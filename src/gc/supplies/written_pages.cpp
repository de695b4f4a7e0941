#include "gc/supplies/written_pages.hpp"

#include "sys/signal_safe_calls.hpp"
#include "vm/process_files.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

Outcome find_written_pages(PageRange part, std::span<PageRange> out, std::size_t& found) noexcept {
  found = 0;
  while (!part.empty() && found < out.size()) {
    std::size_t more = 0;
    std::byte* scanned = nullptr;
    if (const int error = sys::scan_pages(pagemap_descriptor(), part, sys::PagesThat::were_written,
                                          out.subspan(found), more, scanned))
      return Error{"PAGEMAP_SCAN", error, part};
    found += more;
    part = {scanned, pages_for(static_cast<std::size_t>(part.end() - scanned))};
  }
  return kDone;
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
