// Bins: segments by how much is free in them, for the best fit in constant time.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "compress/pool/segment.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

/// Lists through the states of segments. No synchronisation.
class Bins {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  void add(SegmentState* states, std::uint32_t segment) noexcept PAGETRAP_SIGNAL_SAFE {
    const std::size_t bin = states[segment].free / step();
    std::uint32_t& first = first_[bin];
    states[segment].previous = 0;
    states[segment].next = first;
    if (first != 0) states[first - 1].previous = segment + 1;
    first = segment + 1;
    words_[bin / 64] |= std::uint64_t{1} << bin % 64;
  }

  void remove(SegmentState* states, std::uint32_t segment) noexcept PAGETRAP_SIGNAL_SAFE {
    const SegmentState& state = states[segment];
    const std::size_t bin = state.free / step();
    if (state.next != 0) states[state.next - 1].previous = state.previous;
    if (state.previous != 0) {
      states[state.previous - 1].next = state.next;
      return;
    }
    first_[bin] = state.next;
    if (state.next == 0) words_[bin / 64] &= ~(std::uint64_t{1} << bin % 64);
  }

  /// The segment with the least room that is `room` at least.
  [[nodiscard]] std::uint32_t least(std::size_t room) const noexcept PAGETRAP_SIGNAL_SAFE {
    const std::size_t from = (room + step() - 1) / step();
    if (from >= kBins) return kNone;
    std::size_t word = from / 64;
    std::uint64_t bits = words_[word] & ~std::uint64_t{0} << from % 64;
    while (bits == 0) {
      if (++word == words_.size()) return kNone;
      bits = words_[word];
    }
    return first_[word * 64 + static_cast<std::size_t>(std::countr_zero(bits))] - 1;
  }

  /// The segment with the most room.
  [[nodiscard]] std::uint32_t most() const noexcept PAGETRAP_SIGNAL_SAFE {
    for (std::size_t word = words_.size(); word-- > 0;) {
      if (words_[word] == 0) continue;
      const auto bit = static_cast<std::size_t>(std::bit_width(words_[word]) - 1);
      return first_[word * 64 + bit] - 1;
    }
    return kNone;
  }

 private:
  static constexpr std::size_t kBins = 4097;
  /// Bytes of room that one bin differs from the next: 16, more where pages are larger than 8 KiB.
  static std::size_t step() noexcept PAGETRAP_SIGNAL_SAFE {
    return std::max<std::size_t>(16, Segment::size_bytes() / (kBins - 1));
  }
  std::array<std::uint64_t, kBins / 64 + 1> words_{};
  std::array<std::uint32_t, kBins> first_{};  // index + 1
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
