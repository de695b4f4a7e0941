#include "checkpoint/image/checksum.hpp"

#include <xxhash.h>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

std::uint64_t checksum(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

ContentHash content_hash(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed);
  return {hash.low64, hash.high64};
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
