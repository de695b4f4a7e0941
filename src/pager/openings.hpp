// Openings: whether pages are mapped writable when they are filled for a read.
//
// Of a source that finds changes both are right. A page that is mapped read-only costs a trap if it
// is written (3 us); but if it is not, it leaves without being frozen first, which interrupts the
// other CPUs for each page (1 us alone; 9 us measured in a virtual machine while another thread
// runs). So pages are opened where nothing is frozen because no other thread can run, and where
// more than half of them were written in the end: of an interpreter, all are, whose reads count
// references.
#pragma once

#include <atomic>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace pager {

class Openings {
 public:
  /// Pages are about to be shown for a read: whether writable.
  bool next(std::size_t pages) noexcept PAGETRAP_SIGNAL_SAFE {
    // One in 16 is a sample, lest it stay so for ever.
    if (open_.load(std::memory_order_relaxed) &&
        turns_.fetch_add(1, std::memory_order_relaxed) % 16 != 0)
      return true;
    const std::uint32_t seen = shown_.fetch_add(static_cast<std::uint32_t>(pages)) + 1;
    if (seen > kDecideAfter) {
      const std::uint32_t shown = shown_.exchange(0, std::memory_order_relaxed);
      const std::uint32_t written = written_.exchange(0, std::memory_order_relaxed);
      // RACE others have decided meanwhile: what is left says nothing.
      if (shown >= kDecideAfter / 2) open_.store(2 * written > shown, std::memory_order_relaxed);
    }
    return false;
  }
  /// A page that had been shown read-only was written.
  void trapped() noexcept PAGETRAP_SIGNAL_SAFE { written_.fetch_add(1, std::memory_order_relaxed); }

 private:
  static constexpr std::uint32_t kDecideAfter = 64;  // pages; arbitrary
  std::atomic<bool> open_{false};
  std::atomic<std::uint32_t> turns_{0};
  std::atomic<std::uint32_t> shown_{0};
  std::atomic<std::uint32_t> written_{0};
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
