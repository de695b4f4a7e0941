// Scanning: whether a cycle is between its flip and its last scan, and which threads scan just now.
#pragma once

#include <atomic>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// One word, so that a cycle cannot end while a trap begins. Traps may come at any time and bring
/// new work: whoever ends a cycle takes the word, looks for work, and ends it only if no trap has
/// come since.
class Scanning {
 public:
  /// At the flip: all threads stand still.
  void begin() noexcept { word_.store(kActive, std::memory_order_seq_cst); }
  [[nodiscard]] bool active() const noexcept PAGETRAP_SIGNAL_SAFE {
    return (word_.load(std::memory_order_acquire) & kActive) != 0;
  }

  /// A trap's scan. If the cycle is active at its beginning it stays so until its end.
  class Trap {
   public:
    explicit Trap(Scanning& scanning) noexcept PAGETRAP_SIGNAL_SAFE
        : scanning_(scanning),
          active_((scanning.word_.fetch_add(kCame + 1, std::memory_order_seq_cst) & kActive) != 0) {
    }
    ~Trap() PAGETRAP_SIGNAL_SAFE { scanning_.word_.fetch_sub(1, std::memory_order_seq_cst); }
    Trap(const Trap&) = delete;
    Trap& operator=(const Trap&) = delete;
    [[nodiscard]] bool active() const noexcept PAGETRAP_SIGNAL_SAFE { return active_; }

   private:
    Scanning& scanning_;
    bool active_;
  };

  using Moment = std::uint64_t;
  [[nodiscard]] Moment now() const noexcept { return word_.load(std::memory_order_seq_cst); }
  [[nodiscard]] static bool is_quiet(Moment moment) noexcept { return (moment & kTraps) == 0; }
  /// Ends the cycle. False: a trap has come since `quiet`.
  bool end(Moment quiet) noexcept {
    return word_.compare_exchange_strong(quiet, quiet & ~kActive, std::memory_order_seq_cst);
  }

 private:
  static constexpr std::uint64_t kTraps = (std::uint64_t{1} << 31) - 1;  // how many scan
  static constexpr std::uint64_t kActive = std::uint64_t{1} << 31;
  static constexpr std::uint64_t kCame = std::uint64_t{1} << 32;  // counts those that came
  std::atomic<std::uint64_t> word_{0};
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
