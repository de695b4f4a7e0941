#include "compress/content_hash.hpp"

#include <sys/random.h>
#include <xxhash.h>

#include <cerrno>

#include "compress/unproved.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

Result<ContentHash> ContentHash::create() {
  ContentHash hash;
  std::size_t filled = 0;
  while (filled < hash.secret_.size()) {
    const ssize_t length =
        ::getrandom(hash.secret_.data() + filled, hash.secret_.size() - filled, 0);
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return Error{"getrandom", errno};
    filled += static_cast<std::size_t>(length);
  }
  return hash;
}

std::uint64_t ContentHash::operator()(std::span<const std::byte> page) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::uint64_t hash = 0;
  unproved([&] {
    hash = XXH3_64bits_withSecret(page.data(), page.size(), secret_.data(), secret_.size());
  });
  return hash;
}

std::uint32_t checksum(std::span<const std::byte> blob, std::uint64_t seed) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::uint64_t hash = 0;
  unproved([&] { hash = XXH3_64bits_withSeed(blob.data(), blob.size(), seed); });
  return static_cast<std::uint32_t>(hash ^ hash >> 32);
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
