// userfaultfd: pages taken away many at a time, or with their contents.
#include <sys/mman.h>

#include "sys/kernel_abi.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/backends/operations.hpp"
#include "vm/channel.hpp"
#include "vm/process_files.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {

Outcome uffd_discard_all(RegionState& state, std::span<const PageRange> ranges) noexcept
    PAGETRAP_SIGNAL_SAFE {
  // A memory object's contents are dropped by holes, one call each.
  // And single ones, where nothing is gained, or where some page was declined and must be reopened.
  if (state.options.backing != Backing::anonymous || ranges.size() == 1 ||
      state.declined.load(std::memory_order_relaxed)) {
    for (const PageRange& range : ranges)
      if (const Outcome outcome = state.operations.discard(state, range); failed(outcome))
        return outcome;
    return kDone;
  }
  for (const PageRange& range : ranges) state.pages.set(range, state.empty_state());
  const int error = sys::drop_all(self_descriptor(), ranges);
  return error == 0 ? kDone : Error{"MADV_DONTNEED of scattered pages", error, ranges.front()};
}

// RACE the table may never call a page empty that has been filled: it calls these empty before they
// are moved, and whoever faults on one from then on fills it again and says so after.
Outcome uffd_move_out(RegionState& state, PageRange pages, RegionState& to, PageRange place,
                      std::size_t& moved) noexcept PAGETRAP_SIGNAL_SAFE {
  moved = 0;
  const bool possible = state.options.backing == Backing::anonymous &&
                        to.options.backing == Backing::anonymous && state.uffd == to.uffd &&
                        (state.channel->features() & UFFD_FEATURE_MOVE) != 0;
  if (!possible) return Error{"move_out", ENOTSUP, pages, "needs userfaultfd and Linux 6.8"};
  state.pages.set(pages, state.empty_state());
  to.pages.set(place, PageState::read_write);
  // EAGAIN: the kernel could not lock a page just now. It is worth a few tries, no more: what holds
  // it may be another thread's eviction.
  constexpr int kTries = 20;
  int error = 0;
  for (int tries = 0; moved < pages.size_bytes() && tries < kTries; ++tries) {
    const Pages left{(pages.size_bytes() - moved) >> page_shift()};
    std::size_t done = 0;
    error = sys::uffd_move(to.uffd, {place.base + moved, left}, pages.base + moved,
                           UFFDIO_MOVE_MODE_DONTWAKE, done);
    moved += done;
    if (error != EAGAIN) break;
    if (done != 0) tries = 0;
  }
  if (moved == pages.size_bytes()) return kDone;
  const Pages left{(pages.size_bytes() - moved) >> page_shift()};
  state.pages.set({pages.base + moved, left}, PageState::read_write);
  to.pages.set({place.base + moved, left}, to.empty_state());
  return Error{"UFFDIO_MOVE", error != 0 ? error : EAGAIN, {pages.base + moved, left}};
}

}  // namespace v0
}  // namespace pagetrap
