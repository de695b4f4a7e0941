// The software twin of DIRTY: a write barrier that marks cards.
//
// SOURCE  P. Wilson & T. Moher, "A card-marking scheme for controlling intergenerational
// references",
//         SIGPLAN Notices 24(5), 1989; two instructions after U. Hoelzle, "A fast write barrier for
//         generational garbage collectors", 1993. The conditional form is HotSpot's
//         UseCondCardMark: it does not write to a card that is marked already, which spares the
//         cache line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pagetrap::bench::twins {

class CardTable {
 public:
  static constexpr unsigned kCardShift = 9;  // 512 bytes a card, as in HotSpot

  CardTable(const void* heap, std::size_t size_bytes)
      : cards_((size_bytes >> kCardShift) + 1),
        // Biased, so that an address finds its card by a shift and an add. As an integer, since no
        // such array exists.
        biased_(reinterpret_cast<std::uintptr_t>(cards_.data()) -
                (reinterpret_cast<std::uintptr_t>(heap) >> kCardShift)) {}
  CardTable(const CardTable&) = delete;
  CardTable& operator=(const CardTable&) = delete;

  [[gnu::always_inline]] void mark(const void* written) noexcept { *card(written) = 1; }

  [[gnu::always_inline]] void mark_if_clean(const void* written) noexcept {
    volatile std::uint8_t* const found = card(written);
    if (*found == 0) [[unlikely]]
      *found = 1;
  }

  [[nodiscard]] std::size_t marked() const noexcept {
    std::size_t count = 0;
    for (const std::uint8_t value : cards_) count += value;
    return count;
  }

 private:
  // volatile: the collector reads it, at a moment that the compiler does not see.
  [[gnu::always_inline]] volatile std::uint8_t* card(const void* written) const noexcept {
    return reinterpret_cast<volatile std::uint8_t*>(
        biased_ + (reinterpret_cast<std::uintptr_t>(written) >> kCardShift));
  }

  std::vector<std::uint8_t> cards_;
  std::uintptr_t biased_;
};

}  // namespace pagetrap::bench::twins
