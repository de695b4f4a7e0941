// PageMap: which pages of memory in place have contents, or were written.
#pragma once

#include <fcntl.h>

#include <cerrno>
#include <span>

#include <pagetrap/core/result.hpp>

#include "sys/fd.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

class PageMap {
 public:
  /// Anew for each cut: after fork() an old one shows the parent's pages.
  Result<Done> open() {
    file_ = sys::Descriptor(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    if (!file_.valid())
      return Error{
          "open /proc/self/pagemap", errno, {}, "/proc must be mounted and readable for a cut"};
    return Done{};
  }
  /// The runs of such pages of `part`; ENOBUFS if they are more than `out` has room for.
  Result<std::size_t> scan(PageRange part, sys::PagesThat which,
                           std::span<PageRange> out) const noexcept PAGETRAP_SIGNAL_SAFE {
    std::size_t count = 0;
    for (std::byte* next = part.base; next < part.end();) {
      const PageRange rest{next, pages_for(static_cast<std::size_t>(part.end() - next))};
      if (count == out.size()) return Error{"scan of a cut's pages", ENOBUFS, part};
      std::size_t found = 0;
      if (const int error =
              sys::scan_pages(file_number(), rest, which, out.subspan(count), found, next))
        return Error{"PAGEMAP_SCAN", error, rest};
      for (const PageRange& run : out.subspan(count, found)) {
        if (count > 0 && out[count - 1].end() == run.base) {
          out[count - 1].length = Pages{out[count - 1].length.count() + run.length.count()};
        } else {
          out[count++] = PageRange(run);
        }
      }
    }
    return count;
  }

 private:
  [[nodiscard]] int file_number() const noexcept PAGETRAP_SIGNAL_SAFE { return file_.get(); }
  sys::Descriptor file_;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
