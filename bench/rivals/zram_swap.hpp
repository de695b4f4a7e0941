// The kernel's own compressed memory: swap to a zram device.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

namespace pagetrap::bench::rivals {

/// A zram device of its own, compressing with LZ4, in use as swap. Needs root. A process of its own
/// keeps it, so that all is undone (swapoff, reset, hot_remove) even if the measuring process dies.
class ZramSwap {
 public:
  /// On failure reason() says why, nothing is left behind, and the object is of no use.
  explicit ZramSwap(std::size_t size_bytes);
  ~ZramSwap();
  ZramSwap(const ZramSwap&) = delete;
  ZramSwap& operator=(const ZramSwap&) = delete;

  [[nodiscard]] bool there() const noexcept { return reason_.empty(); }
  [[nodiscard]] const std::string& reason() const noexcept { return reason_; }
  /// What its pool takes now, compressed pages and what is between them.
  [[nodiscard]] std::size_t pool_bytes() const;

 private:
  pid_t keeper_ = -1;
  int to_keeper_ = -1;
  int number_ = -1;
  std::string reason_;
};

}  // namespace pagetrap::bench::rivals
