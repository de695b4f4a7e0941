#include "pager/frames.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <limits>

namespace pagetrap {
inline namespace v0 {
namespace pager {

Result<Done> Frames::reserve() {
  // Twice what the machine has: pages may be swapped out, and memory may be plugged in.
  const long installed = ::sysconf(_SC_PHYS_PAGES);
  const std::size_t most = std::numeric_limits<FrameId>::max() - 1;
  const std::size_t wanted =
      std::min(most, 2 * static_cast<std::size_t>(std::max(installed, 32768L)));
  sys::Mapping::Request request;
  request.size_bytes = wanted * sizeof(Frame);
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  auto memory = sys::Mapping::create(request);
  if (!memory) return memory.error();
  memory_ = std::move(*memory);
  sys::name_mapping(memory_.range(), "pager frames");
  limit_ = static_cast<FrameId>(wanted);
  return Done{};
}

FrameId Frames::take(PagedRegion* region, std::uint64_t index) noexcept PAGETRAP_SIGNAL_SAFE {
  FrameId frame = free_;
  if (frame != kNoFrame) {
    free_ = links(frame).next;
  } else {
    if (next_unused_ == limit_) return kNoFrame;
    frame = next_unused_++;
  }
  Frame& record = records()[frame];
  record.links = {};
  record.prepared.store(false, std::memory_order_relaxed);
  record.in_hand = false;
  record.region = region;
  record.index = index;
  record.staged.store(nullptr, std::memory_order_relaxed);
  return frame;
}

void Frames::give_back(FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE {
  Frame& record = records()[frame];
  record.region = nullptr;
  record.links = {kNoFrame, free_, 0};
  free_ = frame;
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
