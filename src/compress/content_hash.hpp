// Hashes: which page is this, and is this blob what was written?
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace compress {

/// 64 bits of a page's contents: equal ones are taken for equal contents, and a page that was
/// changed is lost if it has the hash that it had before. XXH3 passes for random: one in 2^64. But
/// contents may come from an adversary, so the secret is of each store's own.
class ContentHash {
 public:
  static Result<ContentHash> create();  // from getrandom(2)
  [[nodiscard]] std::uint64_t operator()(std::span<const std::byte> page) const noexcept
      PAGETRAP_SIGNAL_SAFE;

 private:
  ContentHash() = default;
  std::array<std::byte, 192> secret_{};  // XXH3 wants 136 at least
};

/// Of a blob; against accidents.
[[nodiscard]] std::uint32_t checksum(std::span<const std::byte> blob, std::uint64_t seed) noexcept
    PAGETRAP_SIGNAL_SAFE;

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
