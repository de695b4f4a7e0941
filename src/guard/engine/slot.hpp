// What is known of the object in a slot. In a table of its own, out of reach of what runs wild.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <pagetrap/guard/heap.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

enum class SlotState : std::uint8_t { unused, live, freed };

/// A slot's state, family and size, in one word that is changed at once.
class Facts {
 public:
  constexpr Facts() = default;
  constexpr explicit Facts(std::uint64_t word) noexcept : word_(word) {}
  constexpr Facts(SlotState state, Family family, std::size_t size, bool stays = false) noexcept
      : word_(static_cast<std::uint64_t>(state) | (stays ? kStays : 0) |
              static_cast<std::uint64_t>(family) << 4 | static_cast<std::uint64_t>(size) << 8) {}
  [[nodiscard]] constexpr SlotState state() const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<SlotState>(word_ & 7);
  }
  /// It is never packed away (cold/).
  [[nodiscard]] constexpr bool stays() const noexcept PAGETRAP_SIGNAL_SAFE {
    return (word_ & kStays) != 0;
  }
  [[nodiscard]] constexpr Family family() const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<Family>((word_ >> 4) & 15);
  }
  [[nodiscard]] constexpr std::size_t size() const noexcept PAGETRAP_SIGNAL_SAFE {
    return word_ >> 8;
  }
  [[nodiscard]] constexpr std::uint64_t word() const noexcept PAGETRAP_SIGNAL_SAFE { return word_; }

 private:
  static constexpr std::uint64_t kStays = 8;
  std::uint64_t word_ = 0;
};

struct Slot {
  std::atomic<std::uint64_t> facts{0};
  std::uint64_t offset = 0;        // of the object from the slot's start
  std::uint32_t allocated_at = 0;  // stacks, in the depot
  std::uint32_t freed_at = 0;
  std::uint32_t allocated_by = 0;  // thread ids
  std::uint32_t freed_by = 0;

  [[nodiscard]] Facts read() const noexcept PAGETRAP_SIGNAL_SAFE {
    return Facts(facts.load(std::memory_order_acquire));
  }
};
static_assert(sizeof(Slot) == 32);

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
