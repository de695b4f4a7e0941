// The cut by write protection of every page that is not protected since the last one. Its time
// grows with the number of their page-table entries; the only one that leaves reads alone on a
// machine without protection keys.
#include "checkpoint/write_protection.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

class WriteProtectCut final : public WriteProtection {
 public:
  using WriteProtection::WriteProtection;

  Result<Done> take(PageRange, std::span<const PageRange> open) override {
    if (const auto opened = open_page_map(); !opened) return opened;
    return protect(open);
  }
  Result<Done> undo(PageRange) noexcept override { return Done{}; }
  Result<Done> finish() noexcept override { return Done{}; }
};

}  // namespace

std::unique_ptr<CutMethod> make_write_protect_cut(Region& region) {
  return std::make_unique<WriteProtectCut>(region);
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
