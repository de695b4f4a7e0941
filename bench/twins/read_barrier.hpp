// The software twin of a trap on access: a read barrier as a range test.
//
// SOURCE  H. Baker, "List processing in real time on a serial computer", CACM 21(4), 1978: the
//         mutator never sees a pointer into from-space. Appel, Ellis & Li 1988 replaced this test
//         by page traps; it is what the traps have to beat.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pagetrap::bench::twins {

/// Addresses that the mutator may not hold: from-space, while a collection is under way.
struct ForbiddenRange {
  std::uintptr_t base = 0;
  std::size_t size_bytes = 0;

  [[nodiscard]] bool contains(const void* p) const noexcept {
    // One subtraction and one unsigned compare, as every collector with a contiguous space does it.
    return reinterpret_cast<std::uintptr_t>(p) - base < size_bytes;
  }
};

/// Load a reference. `forward(p)` is the slow path: returns where the object is now.
template <class T, class Forward>
[[gnu::always_inline]] inline T* load_reference(T* const& slot, const ForbiddenRange& from_space,
                                                Forward&& forward) {
  T* const loaded = slot;
  if (from_space.contains(loaded)) [[unlikely]]
    return forward(loaded);
  return loaded;
}

}  // namespace pagetrap::bench::twins
