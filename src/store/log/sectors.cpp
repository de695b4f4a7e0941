#include "store/log/sectors.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "store/format/checksum.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

// The sum's own field counts as zero.
void seal(std::span<std::byte> sector, SectorHead head, std::uint64_t seed) noexcept {
  head.sum = 0;
  std::memcpy(sector.data(), &head, sizeof head);
  head.sum = checksum(sector, seed);
  std::memcpy(sector.data(), &head, sizeof head);
}

}  // namespace

void encode_record(const RecordPlace& place, std::span<const std::byte> payload, std::uint64_t seed,
                   std::span<std::byte> to) noexcept {
  const RecordHead record{payload.size(), place.commit, place.durable};
  const std::uint64_t sectors = to.size() / kSectorBytes;
  for (std::uint64_t i = 0; i < sectors; ++i) {
    const std::span<std::byte> sector = to.subspan(i * kSectorBytes, kSectorBytes);
    std::byte* next = sector.data() + sizeof(SectorHead);
    std::size_t room = kSectorPayload;
    const bool filler = i != 0 && payload.empty();
    if (i == 0) {
      std::memcpy(next, &record, sizeof record);
      next += sizeof record;
      room -= sizeof record;
    }
    const std::size_t part = std::min(room, payload.size());
    std::copy_n(payload.begin(), part, next);
    std::memset(next + part, 0, room - part);
    payload = payload.subspan(part);
    const std::uint32_t index = filler ? kFiller : static_cast<std::uint32_t>(i);
    seal(sector, {place.first + i, place.epoch, index, 0}, seed);
  }
}

FoundSector look_at_sector(std::span<const std::byte> sector, std::uint64_t number,
                           std::uint64_t seed) noexcept {
  FoundSector found;
  std::memcpy(&found.head, sector.data(), sizeof found.head);
  const SectorHead head = found.head;
  if (head.number == 0 && head.sum == 0) {
    const bool blank =
        std::all_of(sector.begin(), sector.end(), [](std::byte b) { return b == std::byte{0}; });
    found.kind = blank ? SectorKind::old : SectorKind::damaged;
    return found;
  }
  std::array<std::byte, kSectorBytes> copy;
  std::copy_n(sector.begin(), kSectorBytes, copy.begin());
  std::memset(copy.data() + offsetof(SectorHead, sum), 0, sizeof head.sum);
  if (checksum(copy, seed) != head.sum || head.number > number) return found;
  found.kind = head.number == number ? SectorKind::wanted : SectorKind::old;
  return found;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
