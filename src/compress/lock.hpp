// Lock: a mutex for the fault path.
//
// WHY it is safe there: who holds it never touches memory that may be paged, so that it cannot
// fault, and has signals blocked, so that no handler interrupts it and faults. It is held for some
// microseconds at most, by threads that run.
#pragma once

#include <atomic>
#include <cstdint>

#include "sys/relax.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

class Lock {
 public:
  void lock() noexcept PAGETRAP_SIGNAL_SAFE {
    std::uint32_t seen = kFree;
    if (word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire)) return;
    // What is done under it takes less than a sleep and a wake-up do, in a virtual machine 20 us.
    for (unsigned i = 0; i < kSpins; ++i) {
      sys::relax();
      seen = kFree;
      if (word_.load(std::memory_order_relaxed) == kFree &&
          word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire))
        return;
    }
    while (word_.exchange(kAwaited, std::memory_order_acquire) != kFree)
      sys::futex_wait(word_, kAwaited);
  }
  void unlock() noexcept PAGETRAP_SIGNAL_SAFE {
    if (word_.exchange(kFree, std::memory_order_release) == kAwaited) sys::futex_wake_all(word_);
  }

 private:
  enum : std::uint32_t { kFree, kHeld, kAwaited };
  static constexpr unsigned kSpins = 500;  // some 20 us
  std::atomic<std::uint32_t> word_{kFree};
};

/// std::lock_guard, annotated.
class Held {
 public:
  explicit Held(Lock& lock) noexcept PAGETRAP_SIGNAL_SAFE : lock_(lock) { lock_.lock(); }
  ~Held() PAGETRAP_SIGNAL_SAFE { lock_.unlock(); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  Lock& lock_;
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
