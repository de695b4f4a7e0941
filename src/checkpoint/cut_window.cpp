// The mremap cut where the kernel tracks writes by itself (WP_ASYNC), and so no write to a
// protected page faults: pages are copied in the window that they were moved to, and then move back
// a part at a time.
#include <atomic>
#include <optional>

#include <pagetrap/vm/lift.hpp>

#include "checkpoint/cut_method.hpp"
#include "checkpoint/lifting.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

class WindowCut final : public CutMethod {
 public:
  explicit WindowCut(Region& region) noexcept : region_(region) {}

  Result<Done> take(PageRange part, std::span<const PageRange>) override {
    if (const auto finished = finish(); !finished) return finished;  // of an earlier save
    // What an arena has not used yet stays where it is, and can be filled meanwhile.
    auto lifted = region_.lift(lifted_with(region_, part).length);
    if (!lifted) return lifted.error();
    lift_.emplace(std::move(*lifted));
    return Done{};
  }
  [[nodiscard]] const std::byte* source(const std::byte* address) const noexcept
      PAGETRAP_SIGNAL_SAFE override {
    return lift_->at(address);
  }
  Result<std::size_t> pages(PageRange part, bool written, std::span<PageRange> out) noexcept
      PAGETRAP_SIGNAL_SAFE override {
    // Armed, so that the next time only what was written since is found.
    return lift_->pages(part, written ? LiftedPages::written : LiftedPages::armed, out);
  }
  Result<Done> release(PageRange part) noexcept PAGETRAP_SIGNAL_SAFE override {
    const auto moved = lift_->put_back(part);
    if (moved) {
      refused_.store(0, std::memory_order_relaxed);
      return moved;
    }
    // Out of mappings, perhaps, for a moment: callers try again. Page by page needs none, but
    // leaves the region in several, which are slower to lift.
    if (refused_.fetch_add(1, std::memory_order_relaxed) < kPatience) return moved;
    const auto restored = lift_->restore(part);
    if (!restored) return restored.error();
    return Done{};
  }
  Result<Done> undo(PageRange part) noexcept override {
    static_cast<void>(lift_->put_back(part));  // finish() brings what is left
    return finish();
  }
  Result<Done> finish() noexcept override {
    if (!lift_) return Done{};
    const auto finished = lift_->finish();
    if (finished) lift_.reset();
    return finished;
  }

 private:
  Region& region_;
  std::optional<Lift> lift_;
  std::atomic<unsigned> refused_{0};  // in a row
};

}  // namespace

std::unique_ptr<CutMethod> make_window_cut(Region& region) {
  return std::make_unique<WindowCut>(region);
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
