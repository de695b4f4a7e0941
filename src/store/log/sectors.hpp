// Records as sectors: the log's encoding, and what a sector that was read can be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "store/format/layout.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

/// How many sectors a record with `payload_bytes` of runs takes, filled up to the log unit.
[[nodiscard]] constexpr std::uint64_t sectors_for(std::size_t payload_bytes,
                                                  std::size_t log_unit) noexcept {
  const std::uint64_t filled =
      (sizeof(RecordHead) + payload_bytes + kSectorPayload - 1) / kSectorPayload;
  const std::uint64_t unit = log_unit / kSectorBytes;
  return (filled + unit - 1) / unit * unit;
}

struct RecordPlace {
  std::uint64_t first = 0;  // sector number
  std::uint32_t epoch = 0;
  std::uint64_t commit = 0;
  std::uint64_t durable = 0;
};

/// Writes a record's sectors to `to`, which has sectors_for() of them.
void encode_record(const RecordPlace& place, std::span<const std::byte> payload, std::uint64_t seed,
                   std::span<std::byte> to) noexcept;

enum class SectorKind : std::uint8_t {
  wanted,   // of this number
  old,      // of an earlier lap or never written: the log ends before it
  damaged,  // nothing that a store writes
};

struct FoundSector {
  SectorKind kind = SectorKind::damaged;
  SectorHead head;
};
/// What is at the place of sector `number`.
[[nodiscard]] FoundSector look_at_sector(std::span<const std::byte> sector, std::uint64_t number,
                                         std::uint64_t seed) noexcept;

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
