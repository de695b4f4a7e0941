// Whether pages are all zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// `bytes` is a multiple of 64. Most pages are not zero, and say so in the first words.
inline bool is_zero(std::span<const std::byte> bytes) noexcept {
  for (std::size_t at = 0; at < bytes.size(); at += 64) {
    std::uint64_t words[8];
    std::memcpy(words, bytes.data() + at, sizeof words);
    if ((words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7]) !=
        0) {
      return false;
    }
  }
  return true;
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
