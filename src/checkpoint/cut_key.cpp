// The protection-key cut: a signal to each thread takes its right to write away. Reads go on, and
// the time does not depend on pages. System calls that write fail with EFAULT.
#include <fcntl.h>

#include <cerrno>

#include "checkpoint/cut_method.hpp"
#include "checkpoint/page_map.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

class KeyCut final : public CutMethod {
 public:
  explicit KeyCut(Region& region) noexcept : region_(region) {}

  Result<Done> take(PageRange, std::span<const PageRange>) override {
    if (const auto opened = page_map_.open(); !opened) return opened;
    return region_.freeze(Access::read);
  }
  Result<std::size_t> pages(PageRange part, bool written, std::span<PageRange> out) noexcept
      PAGETRAP_SIGNAL_SAFE override {
    if (written) return page_map_.scan(part, sys::PagesThat::were_written, out);
    // Armed, so that the next time only what was written since is found.
    const bool tracks = region_.dirty_form() == DirtyForm::scan;
    return page_map_.scan(
        part, tracks ? sys::PagesThat::are_there_to_arm : sys::PagesThat::are_there, out);
  }
  Result<Done> release(PageRange part) noexcept PAGETRAP_SIGNAL_SAFE override {
    return region_.thaw(part);
  }
  Result<Done> undo(PageRange) noexcept override { return finish(); }
  Result<Done> finish() noexcept override { return region_.thaw(); }

 private:
  Region& region_;
  PageMap page_map_;
};

}  // namespace

std::unique_ptr<CutMethod> make_key_cut(Region& region) { return std::make_unique<KeyCut>(region); }

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
