// Buffers: all the memory that a save may take beside the heap. Taken and given back by faulting
// threads in their signal handlers, so lists are lock-free and nothing is allocated.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>

#include "checkpoint/image/writer.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// Copied pages on their way into an image.
struct Buffer {
  std::byte* data = nullptr;
  std::size_t capacity = 0;  // bytes
  std::size_t used = 0;
  std::size_t run_count = 0;
  std::span<BlockRun> runs;  // room for them
  std::uint32_t next = 0;    // of its list: index + 1
  std::size_t peak = 0;      // of `used`, since the save began

  void clear() noexcept PAGETRAP_SIGNAL_SAFE { used = run_count = 0; }
  [[nodiscard]] bool has_room_for(Pages pages) const noexcept PAGETRAP_SIGNAL_SAFE {
    // Every other page of a unit may be a run of its own.
    return used + bytes(pages) <= capacity && run_count + pages.count() / 2 + 1 <= runs.size();
  }
  void append(const BlockRun& run, const std::byte* from) noexcept PAGETRAP_SIGNAL_SAFE;
};

/// A stack of buffers, by index. RACE a popped buffer may be pushed again by others between the two
/// reads of pop(): the tag in the head's upper half changes with every push and pop (ABA).
class BufferStack {
 public:
  void push(std::vector<Buffer>& all, std::uint32_t index) noexcept PAGETRAP_SIGNAL_SAFE {
    std::uint64_t head = head_.load(std::memory_order_relaxed);
    for (;;) {
      std::atomic_ref<std::uint32_t>(all[index].next)
          .store(static_cast<std::uint32_t>(head), std::memory_order_relaxed);
      if (head_.compare_exchange_weak(head, tagged(head, index + 1), std::memory_order_acq_rel))
        return;
    }
  }
  /// An index, or kNone.
  std::uint32_t pop(std::vector<Buffer>& all) noexcept PAGETRAP_SIGNAL_SAFE {
    std::uint64_t head = head_.load(std::memory_order_acquire);
    for (;;) {
      const auto first = static_cast<std::uint32_t>(head);
      if (first == 0) return kNone;
      const std::uint32_t next =
          std::atomic_ref<std::uint32_t>(all[first - 1].next).load(std::memory_order_relaxed);
      if (head_.compare_exchange_weak(head, tagged(head, next), std::memory_order_acq_rel))
        return first - 1;
    }
  }
  [[nodiscard]] bool empty() const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<std::uint32_t>(head_.load(std::memory_order_acquire)) == 0;
  }
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

 private:
  static std::uint64_t tagged(std::uint64_t old, std::uint32_t first) noexcept
      PAGETRAP_SIGNAL_SAFE {
    return ((old >> 32) + 1) << 32 | first;
  }
  std::atomic<std::uint64_t> head_{0};
};

class BufferPool {
 public:
  /// `count` buffers of `size_bytes` each. Their memory is committed when first used.
  static Result<BufferPool> create(std::size_t count, std::size_t size_bytes);
  BufferPool() = default;
  BufferPool(BufferPool&& other) noexcept;
  BufferPool& operator=(BufferPool&&) = delete;

  /// An empty buffer, or null if all are full.
  Buffer* take() noexcept PAGETRAP_SIGNAL_SAFE;
  void give_back(Buffer& buffer) noexcept PAGETRAP_SIGNAL_SAFE;
  void push_filled(Buffer& buffer) noexcept PAGETRAP_SIGNAL_SAFE;
  Buffer* pop_filled() noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] bool any_filled() const noexcept PAGETRAP_SIGNAL_SAFE { return !filled_.empty(); }
  /// Of the memory that has been used at some time.
  [[nodiscard]] std::size_t peak_bytes() const noexcept;
  /// The first `size_bytes` are committed now, not by the first who needs them.
  void make_ready(std::size_t size_bytes) noexcept;

 private:
  [[nodiscard]] std::uint32_t index_of(const Buffer& buffer) const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<std::uint32_t>(&buffer - buffers_.data());
  }
  sys::Mapping memory_;
  sys::Mapping run_memory_;
  std::vector<Buffer> buffers_;
  BufferStack free_;
  BufferStack filled_;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
