// The cut by write protection of every page. Its time grows with the number of page-table entries;
// the only one that leaves reads alone on a machine without protection keys.
#include <cerrno>

#include "checkpoint/cut_method.hpp"
#include "checkpoint/page_map.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

class WriteProtectCut final : public CutMethod {
 public:
  explicit WriteProtectCut(Region& region) noexcept : region_(region) {}

  Result<Done> take(PageRange part) override {
    if (const auto opened = page_map_.open(); !opened) return opened;
    const auto taken = region_.protect(part, Access::read);
    // Some of it may be protected all the same.
    if (!taken) static_cast<void>(region_.unprotect(part));
    return taken;
  }
  [[nodiscard]] const std::byte* source(const std::byte* address) const noexcept
      PAGETRAP_SIGNAL_SAFE override {
    return address;
  }
  Result<std::size_t> pages(PageRange part, bool written, std::span<PageRange> out) noexcept
      PAGETRAP_SIGNAL_SAFE override {
    if (written) return Error{"write-protect cut", ENOTSUP, part, "does not track writes"};
    return page_map_.scan(part, sys::PagesThat::are_there, out);
  }
  Result<Done> release(PageRange part) noexcept PAGETRAP_SIGNAL_SAFE override {
    return region_.unprotect(part);
  }
  Result<Done> finish() noexcept override { return Done{}; }

 private:
  Region& region_;
  PageMap page_map_;
};

}  // namespace

std::unique_ptr<CutMethod> make_write_protect_cut(Region& region) {
  return std::make_unique<WriteProtectCut>(region);
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
