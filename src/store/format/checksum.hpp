// XXH3 with 64 bits: of superblocks, log sectors, pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

std::uint64_t checksum(std::span<const std::byte> bytes, std::uint64_t seed) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// Of a page's contents at its place. Never 0, which says that the page was never written.
inline std::uint64_t page_checksum(std::span<const std::byte> page, std::uint64_t number,
                                   std::uint64_t store_seed) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t sum = checksum(page, store_seed + number);
  return sum != 0 ? sum : 1;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
