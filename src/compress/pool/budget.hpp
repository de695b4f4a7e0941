// Budget: bytes that may be held, and that are; shared by all that hold some.
#pragma once

#include <atomic>
#include <cstddef>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace compress {

class Budget {
 public:
  explicit Budget(std::size_t limit) noexcept : limit_(limit) {}

  [[nodiscard]] bool take(std::size_t size) noexcept PAGETRAP_SIGNAL_SAFE {
    std::size_t used = used_.load(std::memory_order_relaxed);
    do {
      const std::size_t limit = limit_.load(std::memory_order_relaxed);
      if (used > limit || limit - used < size) return false;
    } while (!used_.compare_exchange_weak(used, used + size, std::memory_order_relaxed));
    return true;
  }
  void give_back(std::size_t size) noexcept PAGETRAP_SIGNAL_SAFE {
    used_.fetch_sub(size, std::memory_order_relaxed);
  }
  [[nodiscard]] std::size_t used() const noexcept PAGETRAP_SIGNAL_SAFE {
    return used_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::size_t limit() const noexcept PAGETRAP_SIGNAL_SAFE {
    return limit_.load(std::memory_order_relaxed);
  }
  /// May be below what is used: then nothing is to be had until enough has been given back.
  void set_limit(std::size_t limit) noexcept PAGETRAP_SIGNAL_SAFE {
    limit_.store(limit, std::memory_order_relaxed);
  }

 private:
  std::atomic<std::size_t> limit_;
  std::atomic<std::size_t> used_{0};
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
