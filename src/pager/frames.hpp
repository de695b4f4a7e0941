// Frames: a record for each page in memory. Virtually as many as the machine could hold, committed
// as they are used.
#pragma once

#include <atomic>
#include <cstdint>

#include <pagetrap/core/result.hpp>
#include <pagetrap/pager/policy.hpp>

#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

class PagedRegion;

struct Frame {
  FrameLinks links;
  std::atomic<bool> prepared{false};  // its source has seen a copy since it was filled
  bool in_hand = false;               // an eviction has it: in no list, and not to be freed
  PagedRegion* region = nullptr;      // null: free
  std::uint64_t index = 0;
  /// While its page is evicting: where the contents are. Null: on their way there. kInPlace: still
  /// in the region, write-protected.
  std::atomic<std::byte*> staged{nullptr};

  static std::byte* in_place() noexcept PAGETRAP_SIGNAL_SAFE {
    return reinterpret_cast<std::byte*>(std::uintptr_t{1});
  }
};

/// GUARDED_BY the engine's lock, but for what is atomic, and for index and region of a frame that
/// belongs to a page in transit: its owner may read them.
class Frames final : public FrameTable {
 public:
  Result<Done> reserve();  // once

  FrameLinks& links(FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE override {
    return records()[frame].links;
  }
  Frame& operator[](FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE { return records()[frame]; }

  /// kNoFrame: all are in use, which only a budget beyond the machine's memory can bring about.
  FrameId take(PagedRegion* region, std::uint64_t index) noexcept PAGETRAP_SIGNAL_SAFE;
  void give_back(FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Every frame in use is below.
  [[nodiscard]] FrameId end() const noexcept PAGETRAP_SIGNAL_SAFE { return next_unused_; }

 private:
  [[nodiscard]] Frame* records() noexcept PAGETRAP_SIGNAL_SAFE {
    return reinterpret_cast<Frame*>(memory_.data());
  }
  sys::Mapping memory_;
  FrameId free_ = kNoFrame;
  FrameId next_unused_ = 1;
  FrameId limit_ = 0;
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
