// The mremap cut: page tables move into a window in one step, and come back a piece at a time,
// write-protected. If little is to be protected it is protected where it is.
#include <atomic>
#include <numeric>
#include <optional>

#include <pagetrap/vm/lift.hpp>

#include "checkpoint/lifting.hpp"
#include "checkpoint/write_protection.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

// Up to here protecting takes no longer than a lift, 0.1 to 0.2 ms (measured: 2 us a call, 20 to 30
// ns a page), and nothing has to come back.
constexpr std::size_t kFewRuns = 32;
constexpr Pages kFewPages{4096};

bool are_few(std::span<const PageRange> open) noexcept {
  const std::size_t pages = std::accumulate(
      open.begin(), open.end(), std::size_t{0},
      [](std::size_t sum, const PageRange& run) { return sum + run.length.count(); });
  return open.size() <= kFewRuns && pages <= kFewPages.count();
}

class LiftCut final : public WriteProtection {
 public:
  using WriteProtection::WriteProtection;

  Result<Done> take(PageRange part, std::span<const PageRange> open) override {
    // Of an earlier save, if the kernel refused then: what is in the window is the program's.
    if (const auto finished = finish(); !finished) return finished;
    if (const auto opened = open_page_map(); !opened) return opened;
    if (are_few(open) && !always_lifts_) return protect(open);
    const PageRange away = lifted_with(region(), part);
    auto lifted = region().lift(away.length);
    if (!lifted) return lifted.error();
    lift_.emplace(std::move(*lifted));
    away_ = away;
    return Done{};
  }
  void always_lift(bool always) noexcept override { always_lifts_ = always; }
  [[nodiscard]] PageRange away() const noexcept PAGETRAP_SIGNAL_SAFE override { return away_; }
  Result<Access> bring_back(PageRange part) noexcept PAGETRAP_SIGNAL_SAFE override {
    const auto moved = lift_->put_back(part, Access::read);
    if (moved) {
      refused_.store(0, std::memory_order_relaxed);
      return Access::read;
    }
    // Out of mappings, perhaps, for a moment: callers try again. Page by page needs none, but
    // leaves the region in several, which are slower to lift.
    if (refused_.fetch_add(1, std::memory_order_relaxed) < kPatience) return moved.error();
    const auto restored = lift_->restore(part);
    if (!restored) return restored.error();
    return Access::read_write;
  }
  Result<Done> undo(PageRange) noexcept override {
    if (!lift_) return Done{};
    static_cast<void>(lift_->put_back(away_));  // finish() brings what is left
    return finish();
  }
  Result<Done> finish() noexcept override {
    if (!lift_) return Done{};
    const auto finished = lift_->finish();
    if (finished) {
      lift_.reset();
      away_ = {};
    }
    return finished;
  }

 private:
  std::optional<Lift> lift_;
  PageRange away_;
  bool always_lifts_ = false;
  std::atomic<unsigned> refused_{0};  // in a row
};

}  // namespace

std::unique_ptr<CutMethod> make_lift_cut(Region& region) {
  return std::make_unique<LiftCut>(region);
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
