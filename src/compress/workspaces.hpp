// Workspaces: what a call needs while it compresses or expands a page; made beforehand, since the
// fault path can make nothing.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include <pagetrap/compress/codec.hpp>
#include <pagetrap/core/result.hpp>

#include "sys/mapping.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

struct Workspace {
  std::span<std::byte> blob;  // a page, and what stands before it
  std::span<std::byte> page;
  std::span<std::byte> scratch;  // the codec's
  std::uint64_t prepared = 0;    // for which codec: its serial number

  /// Scratch, prepared for `codec`.
  std::span<std::byte> for_codec(const Codec& codec, std::uint64_t serial) noexcept
      PAGETRAP_SIGNAL_SAFE {
    if (prepared != serial) codec.prepare(scratch);
    prepared = serial;
    return scratch;
  }
};

/// Threads  any, with signals blocked while they have one: who waits for it waits for a thread that
///          runs.
class Workspaces {
 public:
  static constexpr unsigned kMost = 64;

  Result<Done> open(unsigned count, std::size_t scratch_bytes);

  class Lease {
   public:
    explicit Lease(Workspaces& of) noexcept PAGETRAP_SIGNAL_SAFE : of_(of), index_(of.take()) {}
    ~Lease() PAGETRAP_SIGNAL_SAFE { of_.give_back(index_); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Workspace* operator->() const noexcept PAGETRAP_SIGNAL_SAFE { return &of_.all_[index_]; }
    Workspace& operator*() const noexcept PAGETRAP_SIGNAL_SAFE { return of_.all_[index_]; }

   private:
    Workspaces& of_;
    unsigned index_;
  };

  [[nodiscard]] std::size_t scratch_bytes() const noexcept { return scratch_bytes_; }
  /// How many have ever been used, and so may have memory.
  [[nodiscard]] unsigned ever_used() const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<unsigned>(std::popcount(ever_.load(std::memory_order_relaxed)));
  }

  /// Across fork(): waits until nobody has one.
  void take_all() noexcept PAGETRAP_SIGNAL_SAFE {
    for (unsigned i = 0; i < count_; ++i) static_cast<void>(take());
  }
  void give_back_all() noexcept PAGETRAP_SIGNAL_SAFE {
    for (unsigned i = 0; i < count_; ++i) give_back(i);
  }

 private:
  unsigned take() noexcept PAGETRAP_SIGNAL_SAFE {
    for (;;) {
      const std::uint32_t before = returned_.load(std::memory_order_acquire);
      std::uint64_t free = free_.load(std::memory_order_relaxed);
      while (free != 0) {
        // The lowest: memory of the others stays uncommitted.
        if (!free_.compare_exchange_weak(free, free & (free - 1), std::memory_order_acquire))
          continue;
        const std::uint64_t bit = free & ~(free - 1);
        if ((ever_.load(std::memory_order_relaxed) & bit) == 0)
          ever_.fetch_or(bit, std::memory_order_relaxed);
        return static_cast<unsigned>(std::countr_zero(bit));
      }
      // RACE one is given back between the look and the wait: the count has changed then.
      waiting_.fetch_add(1);
      if (free_.load() == 0) sys::futex_wait(returned_, before);
      waiting_.fetch_sub(1);
    }
  }
  void give_back(unsigned index) noexcept PAGETRAP_SIGNAL_SAFE {
    free_.fetch_or(std::uint64_t{1} << index);
    if (waiting_.load() == 0) return;
    returned_.fetch_add(1);
    sys::futex_wake_all(returned_);
  }

  sys::Mapping memory_;
  std::array<Workspace, kMost> all_;
  unsigned count_ = 0;
  std::size_t scratch_bytes_ = 0;
  std::atomic<std::uint64_t> free_{0};
  std::atomic<std::uint64_t> ever_{0};
  std::atomic<std::uint32_t> returned_{0};  // futex word
  std::atomic<std::uint32_t> waiting_{0};
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
