// Pile: a list in memory of its own. Nothing here calls malloc: a thread that is stopped may have
// its lock.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/result.hpp>

#include "gc/outcome.hpp"
#include "gc/zeroed.hpp"
#include "sys/mapping.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// Values that may be read before they have been written are told by their being zero.
template <class T>
class Pile {
 public:
  /// Room for `capacity`; pages are taken as they are used.
  Outcome create(std::size_t capacity) {
    auto memory = zeroed_memory(capacity * sizeof(T));
    if (!memory) return memory.error();
    memory_ = std::move(*memory);
    items_ = reinterpret_cast<T*>(memory_.data());
    capacity_ = capacity;
    return kDone;
  }

  /// False: full. Any number of threads at once.
  bool push(T item) noexcept PAGETRAP_SIGNAL_SAFE {
    const std::size_t place = count_.fetch_add(1, std::memory_order_relaxed);
    if (place >= capacity_) {
      count_.store(capacity_, std::memory_order_relaxed);
      return false;
    }
    std::atomic_ref<T>(items_[place]).store(item, std::memory_order_release);
    return true;
  }
  [[nodiscard]] std::size_t size() const noexcept PAGETRAP_SIGNAL_SAFE {
    return std::min(count_.load(std::memory_order_acquire), capacity_);
  }
  /// RACE zero: its writer has the place, and has not come to write.
  [[nodiscard]] T at(std::size_t i) const noexcept PAGETRAP_SIGNAL_SAFE {
    return std::atomic_ref<T>(items_[i]).load(std::memory_order_acquire);
  }
  [[nodiscard]] T* place(std::size_t i) noexcept { return items_ + i; }
  /// With nobody else at it.
  void set(std::size_t i, T item) noexcept { items_[i] = item; }
  void shrink(std::size_t count) noexcept {
    std::fill(items_ + count, items_ + size(), T{});
    count_.store(count, std::memory_order_release);
  }
  void clear() noexcept {
    constexpr std::size_t kMuch = 65536;  // to be zeroed
    if (size() > kMuch && sys::advise(memory_.range(), MADV_DONTNEED) == 0) {
      count_.store(0, std::memory_order_release);
    } else {
      shrink(0);
    }
  }

 private:
  sys::Mapping memory_;
  T* items_ = nullptr;
  std::size_t capacity_ = 0;
  std::atomic<std::size_t> count_{0};
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
