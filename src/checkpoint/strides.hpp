// Strides: how much to open at once for a thread that faults. One that hardly runs between two
// faults, time after time, gets twice as much, and twice as much again, so that what a fault costs
// besides copying is paid less often; one that does other things in between, or only catches up on
// them, waits for as little as possible.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <sys/types.h>

#include <pagetrap/core/config.hpp>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

class Strides {
 public:
  /// For a fault of `thread` that is to be served now: a power of two, at most `most`.
  [[nodiscard]] std::size_t units(pid_t thread, std::size_t most) noexcept PAGETRAP_SIGNAL_SAFE {
    Slot& slot = slot_of(thread);
    const std::uint64_t now = sys::monotonic_nanoseconds();
    const std::uint64_t ran = now - slot.served_at.load(std::memory_order_relaxed);
    const std::uint64_t cost = slot.cost.load(std::memory_order_relaxed);
    std::uint32_t busy = slot.busy.load(std::memory_order_relaxed);
    busy = ran > cost ? busy / 2 : std::min(busy + 1, kMostBusy);
    slot.busy.store(busy, std::memory_order_relaxed);
    slot.began_at.store(now, std::memory_order_relaxed);
    std::size_t units = 1;
    for (; busy >= kForTwice && units < most; busy -= kForTwice) units *= 2;
    return units;
  }
  /// It has been.
  void served(pid_t thread) noexcept PAGETRAP_SIGNAL_SAFE {
    Slot& slot = slot_of(thread);
    const std::uint64_t now = sys::monotonic_nanoseconds();
    slot.cost.store(now - slot.began_at.load(std::memory_order_relaxed), std::memory_order_relaxed);
    slot.served_at.store(now, std::memory_order_relaxed);
  }

 private:
  static constexpr std::uint32_t kForTwice = 4;  // faults in a row
  static constexpr std::uint32_t kMostBusy = 16 * kForTwice;
  // RACE threads that share a slot, or one that is served twice, get each other's stride: no more
  // than a fault that is dearer than need be.
  struct alignas(64) Slot {
    std::atomic<std::uint64_t> began_at{0};   // ns
    std::atomic<std::uint64_t> served_at{0};  // ns
    std::atomic<std::uint64_t> cost{0};       // ns, of the last one
    std::atomic<std::uint32_t> busy{0};
  };
  [[nodiscard]] Slot& slot_of(pid_t thread) noexcept PAGETRAP_SIGNAL_SAFE {
    return slots_[static_cast<std::size_t>(thread) % slots_.size()];
  }
  std::array<Slot, 32> slots_{};
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
