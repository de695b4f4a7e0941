// Wishes: what threads that wait ask the workers to do next. Lock-free; a wish that finds no place
// is lost, since its turn comes anyway.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

class Wishes {
 public:
  struct Wish {
    std::size_t part = 0;
    std::size_t number = 0;  // of a unit, or a piece
  };
  void add(Wish wish) noexcept PAGETRAP_SIGNAL_SAFE {
    const std::uint64_t word = std::uint64_t{wish.part + 1} << kPartShift | wish.number;
    for (auto& slot : slots_) {
      std::uint64_t known = slot.load(std::memory_order_relaxed);
      if (known == word) return;
      if (known == 0 && slot.compare_exchange_strong(known, word, std::memory_order_acq_rel)) {
        count_.fetch_add(1, std::memory_order_release);
        return;
      }
    }
  }
  /// In turns: a thread that wishes again at once gets the first free slot, and would always be
  /// served before those behind it (a stop of 155 ms was seen).
  std::optional<Wish> take() noexcept {
    if (!any()) return std::nullopt;
    const std::size_t first = next_.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const std::size_t index = (first + i) % slots_.size();
      if (slots_[index].load(std::memory_order_relaxed) == 0) continue;
      const std::uint64_t word = slots_[index].exchange(0, std::memory_order_acq_rel);
      if (word == 0) continue;
      count_.fetch_sub(1, std::memory_order_relaxed);
      next_.store(index + 1, std::memory_order_relaxed);
      return Wish{static_cast<std::size_t>(word >> kPartShift) - 1,
                  static_cast<std::size_t>(word & ((std::uint64_t{1} << kPartShift) - 1))};
    }
    return std::nullopt;
  }
  /// Advisory.
  [[nodiscard]] bool any() const noexcept { return count_.load(std::memory_order_acquire) > 0; }

 private:
  static constexpr unsigned kPartShift = 48;
  std::array<std::atomic<std::uint64_t>, 64> slots_{};
  std::atomic<int> count_{0};
  std::atomic<std::size_t> next_{0};  // where to look first
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
