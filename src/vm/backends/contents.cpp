// Giving the memory of pages back to the kernel, for every backend.
#include <sys/mman.h>

#include "sys/signal_safe_calls.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {

Outcome drop_contents(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state.memory_file < 0) {
    const int advice = state.options.backing == Backing::anonymous ? MADV_DONTNEED : MADV_REMOVE;
    const int error = sys::advise(range, advice);
    return error == 0 ? kDone : Error{"madvise", error, range};
  }
  const int error =
      sys::punch_hole(state.memory_file, state.offset_of(range.base), range.size_bytes());
  return error == 0 ? kDone
                    : Error{"fallocate PUNCH_HOLE", error, range,
                            "the file system must support holes (tmpfs, ext4, xfs, btrfs)"};
}

}  // namespace v0
}  // namespace pagetrap
