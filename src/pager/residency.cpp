// Frames come and go, and the policies are told.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "pager/engine.hpp"
#include "pager/gate.hpp"
#include "pager/paged_region.hpp"
#include "sys/fd.hpp"
#include "sys/pagemap.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

// The words become resident under the lock, so that whoever holds it sees a frame in its policy's
// list and its page resident together.
void Engine::admit(PagedRegion& region, std::uint64_t first, std::span<const PageWord> before,
                   bool first_writable, bool others_writable) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint32_t now = evictions_now();
  std::uint64_t refaults = 0;
  {
    const Locked locked(lock);
    for (std::size_t i = 0; i < before.size(); ++i) {
      // Without a frame the page can never be a victim: see Frames::take.
      const FrameId frame = frames.take(&region, first + i);
      if (frame != kNoFrame && before[i].departed()) {
        region.pool->policy->on_refault(frames, frame, now - before[i].stamp());
        ++refaults;
      } else if (frame != kNoFrame) {
        region.pool->policy->on_fill(frames, frame);
      }
      region.slot(first + i).set(
          PageWord::resident(frame, i == 0 ? first_writable : others_writable));
    }
  }
  region.tally.resident.fetch_add(before.size(), std::memory_order_relaxed);
  count(region.tally.filled, before.size());
  if (refaults != 0) count(region.tally.refaults, refaults);
}

bool Engine::tell_policy(PagedRegion& region, std::uint64_t index, FrameEvent event) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const Locked locked(lock);
  const PageWord word = region.slot(index).load();
  if (word.stage() != Stage::resident || word.frame() == kNoFrame || word.pins() != 0) return false;
  if (frames[word.frame()].in_hand) return false;
  region.pool->policy->on_event(frames, word.frame(), event);
  return true;
}

std::vector<std::uint64_t> Engine::pages_of(const PagedRegion& region) {
  constexpr FrameId kAtOnce = 1024;  // records looked at under the lock
  std::vector<std::uint64_t> pages;
  for (FrameId next = 1;;) {
    pages.reserve(pages.size() + kAtOnce);  // nothing is allocated under the lock
    const Inside inside;
    const Locked locked(lock);
    const FrameId end = std::min(frames.end(), next + kAtOnce);
    for (; next < end; ++next)
      if (frames[next].region == &region) pages.push_back(frames[next].index);
    if (next >= frames.end()) break;
  }
  std::sort(pages.begin(), pages.end());
  return pages;
}

// RACE an evictor of another thread has frames of the region in hand: they are waited for.
void Engine::forget_region(PagedRegion& region) noexcept {
  std::size_t freed = 0;
  for (bool in_transit = true; in_transit;) {
    in_transit = false;
    const Inside inside;
    {
      const Locked locked(lock);
      for (FrameId frame = 1; frame < frames.end(); ++frame) {
        if (frames[frame].region != &region) continue;
        const PageWord word = region.slot(frames[frame].index).load();
        if (frames[frame].in_hand || word.stage() != Stage::resident) {
          in_transit = true;
          continue;
        }
        region.pool->policy->on_event(frames, frame, FrameEvent::gone);
        region.slot(frames[frame].index).set(PageWord{});
        frames.give_back(frame);
        ++freed;
      }
    }
    if (in_transit) sys::yield();
  }
  give_back_room(*region.pool, freed);
  count_source_bytes(region.source_bytes, 0);
}

// A pinned page is in no list. Others change a word without the lock; but a page's first pin and
// the end of its last one are told to its policy, so both happen under it.
bool Engine::change_pins(PagedRegion& region, std::uint64_t index, bool more) noexcept {
  const Locked locked(lock);
  PageSlot& slot = region.slot(index);
  PageWord word = slot.load();
  while (word.stage() == Stage::resident) {
    if (more && word.pins() == PageWord::kMostPins) return false;
    const PageWord next = word.with_pins(more ? word.pins() + 1 : word.pins() - 1);
    if (!slot.change(word, next)) continue;
    if (word.frame() == kNoFrame || frames[word.frame()].in_hand) return true;
    if (word.pins() == 0) region.pool->policy->on_event(frames, word.frame(), FrameEvent::gone);
    if (next.pins() == 0) region.pool->policy->on_event(frames, word.frame(), FrameEvent::kept);
    return true;
  }
  return false;
}

Result<bool> Engine::drop_page(PagedRegion& region, std::uint64_t index) {
  PageSlot& slot = region.slot(index);
  PageWord word = slot.load();
  {
    const Locked locked(lock);
    const bool ours = word.stage() == Stage::resident && word.pins() == 0 &&
                      word.frame() != kNoFrame && !frames[word.frame()].in_hand &&
                      slot.change(word, word.in(Stage::leaving));
    if (!ours) return false;
    region.pool->policy->on_event(frames, word.frame(), FrameEvent::gone);
  }
  const auto dropped = region.memory.discard(region.pages(index, 1));
  if (!dropped) {
    const Locked locked(lock);
    slot.set(word);
    region.pool->policy->on_event(frames, word.frame(), FrameEvent::kept);
    return dropped.error();
  }
  region.source.forget(index, 1);
  region.tally.resident.fetch_sub(1, std::memory_order_relaxed);
  {
    const Locked locked(lock);
    slot.set(PageWord{});
    frames.give_back(word.frame());
  }
  give_back_room(*region.pool, 1);
  return true;
}

Result<std::vector<PageRange>> Engine::present_pages(PageRange range) {
  const sys::Descriptor pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return Error{"open /proc/self/pagemap", errno, range};
  std::vector<PageRange> found;
  if (auto scanned = sys::scan_present(pagemap.get(), range, found); !scanned)
    return scanned.error();
  return found;
}

std::size_t Engine::unprepared(Pool& pool, std::span<FrameId> out) noexcept {
  const Locked locked(lock);
  if (pool.policy == nullptr) return 0;
  const auto next = out.first(pool.policy->upcoming(frames, out));
  const auto end = std::remove_if(next.begin(), next.end(), [&](FrameId frame) {
    return frames[frame].prepared.load(std::memory_order_relaxed);
  });
  return static_cast<std::size_t>(end - next.begin());
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
