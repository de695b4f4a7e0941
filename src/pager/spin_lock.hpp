// A lock for a few tens of instructions that never fault and are never interrupted: its holders
// have asynchronous signals blocked (gate.hpp).
#pragma once

#include <atomic>

#include <pagetrap/core/config.hpp>

#include "sys/relax.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

class SpinLock {
 public:
  void lock() noexcept PAGETRAP_SIGNAL_SAFE {
    constexpr int kSpins = 100;  // then its holder is probably not running
    for (int spins = 0; taken_.exchange(true, std::memory_order_acquire);) {
      while (taken_.load(std::memory_order_relaxed)) {
        if (++spins > kSpins) {
          sys::yield();
        } else {
          sys::relax();
        }
      }
    }
  }
  void unlock() noexcept PAGETRAP_SIGNAL_SAFE { taken_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> taken_{false};
};

/// std::lock_guard, with the annotation.
class Locked {
 public:
  explicit Locked(SpinLock& lock) noexcept PAGETRAP_SIGNAL_SAFE : lock_(lock) { lock_.lock(); }
  ~Locked() PAGETRAP_SIGNAL_SAFE { lock_.unlock(); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  SpinLock& lock_;
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
