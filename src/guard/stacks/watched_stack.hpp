// A thread's stack, as the fault handler knows it.
#pragma once

#include <cstddef>
#include <cstdint>

#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

struct WatchedStack {
  std::uintptr_t bottom = 0;     // faults from here ...
  std::uintptr_t low = 0;        // ... to here are overflows: the first byte that could be used
  std::uintptr_t high = 0;       // 0: not watched
  std::uintptr_t alternate = 0;  // start of the shim's alternate stack; 0: there is none
  bool of_first_thread = false;

  /// Whether an access to `address` by code with this stack pointer is an overflow. Code uses what
  /// is above its stack pointer, or pushes, or probes the next page: what is farther below is a
  /// wild pointer.
  [[nodiscard]] bool overflowed_by(std::uintptr_t address, std::uintptr_t sp) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return high != 0 && address >= bottom && address < low && sp < high &&
           address + page_size() >= sp;
  }
};

/// For the fault handler of the room: whether the thread that `context` interrupted used up its
/// stack, and which that was.
bool find_overflow(const void* address, const void* context, WatchedStack& stack) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// Says it on standard error.
void report_overflow(const WatchedStack& stack, std::uintptr_t address,
                     const void* context) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
