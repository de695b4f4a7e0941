// The cut by write protection of every page. Its time grows with the number of page-table entries;
// the only one that leaves reads alone on a machine without protection keys.
#include <fcntl.h>

#include <cerrno>

#include "checkpoint/cut_method.hpp"
#include "sys/fd.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

class WriteProtectCut final : public CutMethod {
 public:
  explicit WriteProtectCut(Region& region) noexcept : region_(region) {}

  Result<Done> take(PageRange part) override {
    // Anew for each cut: after fork() an old one shows the parent's pages.
    page_map_ = sys::Descriptor(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    if (page_map_.get() < 0)
      return Error{"open /proc/self/pagemap", errno, part, "/proc must be mounted and readable"};
    return region_.protect(part, Access::read);
  }
  [[nodiscard]] const std::byte* source(const std::byte* address) const noexcept
      PAGETRAP_SIGNAL_SAFE override {
    return address;
  }
  Result<std::size_t> pages(PageRange part, bool written, std::span<PageRange> out) noexcept
      PAGETRAP_SIGNAL_SAFE override {
    if (written) return Error{"write-protect cut", ENOTSUP, part, "does not track writes"};
    std::size_t count = 0;
    for (std::byte* next = part.base; next < part.end();) {
      const PageRange rest{next, pages_for(static_cast<std::size_t>(part.end() - next))};
      if (count == out.size()) return Error{"write-protect cut", ENOBUFS, part};
      std::size_t found = 0;
      if (const int error = sys::scan_pages(page_map_.get(), rest, sys::PagesThat::are_there,
                                            out.subspan(count), found, next))
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
  Result<Done> release(PageRange part) noexcept PAGETRAP_SIGNAL_SAFE override {
    return region_.unprotect(part);
  }
  Result<Done> finish() noexcept override { return Done{}; }

 private:
  Region& region_;
  sys::Descriptor page_map_;
};

}  // namespace

std::unique_ptr<CutMethod> make_write_protect_cut(Region& region) {
  return std::make_unique<WriteProtectCut>(region);
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
