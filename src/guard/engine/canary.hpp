// Canaries: known bytes beside an object, where no guard can be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

inline constexpr unsigned char kCanary = 0xc5;  // odd, and no pointer begins with it

inline void plant(std::byte* from, std::byte* to) noexcept {
  std::memset(from, kCanary, static_cast<std::size_t>(to - from));
}

/// The first byte that is not as planted; `to` if all are.
inline std::byte* first_changed(std::byte* from, std::byte* to) noexcept {
  constexpr std::uint64_t kWord = 0x0101010101010101U * kCanary;
  while (to - from >= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, from, 8);
    if (word != kWord) break;
    from += 8;
  }
  while (from < to && *from == std::byte{kCanary}) ++from;
  return from;
}
/// The last one, which lies nearest to an object that begins at `to`.
inline std::byte* last_changed(std::byte* from, std::byte* to) noexcept {
  for (std::byte* at = to; at > from; --at)
    if (at[-1] != std::byte{kCanary}) return at - 1;
  return to;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
