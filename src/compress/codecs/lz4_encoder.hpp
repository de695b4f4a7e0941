// Lz4Encoder: pages into LZ4 blocks that refer to a dictionary.
//
// WHY our own: LZ4's table has 4096 entries for dictionary and page together, and is copied for
// each page. Of a dictionary of 60 KiB that finds a fraction. Here the dictionary has a table of
// its own, eight times as large, made once and shared. Blocks are LZ4's, and LZ4 expands them.
// SOURCE lz4_Block_format.md of LZ4 1.9.4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <pagetrap/core/result.hpp>

#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

class Lz4Encoder {
 public:
  /// `dictionary` stays where it is, and is less than 64 KiB minus a page.
  static Result<Lz4Encoder> create(std::span<const std::byte> dictionary);

  static constexpr std::size_t kScratch = 4096 * sizeof(std::uint16_t);

  /// The length of the block in `out`, 0: too short for it. `scratch` has kScratch bytes.
  [[nodiscard]] std::size_t encode(std::span<const std::byte> page, std::span<std::byte> out,
                                   std::span<std::byte> scratch) const noexcept
      PAGETRAP_SIGNAL_SAFE;

  [[nodiscard]] std::size_t own_bytes() const noexcept { return table_.range().size_bytes(); }

 private:
  Lz4Encoder() = default;
  std::span<const std::byte> dictionary_;
  sys::Mapping table_;  // by hash of four bytes: where in the dictionary they were last
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
