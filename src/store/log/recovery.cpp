#include "store/log/recovery.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "store/log/sectors.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

// Arbitrary: long enough for the disk, short beside a log that is nearly empty.
constexpr std::uint64_t kPieceSectors = 2048;

/// The log's sectors in order, read in pieces.
class Reader {
 public:
  static Result<Reader> create(Disk& disk, const Superblock& block) {
    auto piece = SparseArray<std::byte>::create(kPieceSectors * kSectorBytes);
    if (!piece) return piece.error();
    return Reader(disk, block, std::move(*piece));
  }
  [[nodiscard]] std::uint64_t offset_of(std::uint64_t number) const noexcept {
    return block_.log_offset + number % sectors_ * kSectorBytes;
  }
  Outcome sector(std::uint64_t number, std::span<const std::byte>& found) noexcept {
    if (number < from_ || number >= to_)
      if (const Outcome outcome = load(number); failed(outcome)) return outcome;
    found = {piece_.data() + (number - from_) * kSectorBytes, kSectorBytes};
    return kDone;
  }
  [[nodiscard]] std::uint64_t sectors() const noexcept { return sectors_; }

 private:
  Reader(Disk& disk, const Superblock& block, SparseArray<std::byte> piece) noexcept
      : disk_(disk),
        block_(block),
        sectors_(block.log_bytes / kSectorBytes),
        piece_(std::move(piece)) {}
  Outcome load(std::uint64_t number) noexcept {
    const std::uint64_t count = std::min(kPieceSectors, sectors_ - number % sectors_);
    const std::span<std::byte> to(piece_.data(), count * kSectorBytes);
    if (const Outcome outcome = disk_.read(to, offset_of(number)); failed(outcome)) return outcome;
    from_ = number;
    to_ = number + count;
    return kDone;
  }
  Disk& disk_;
  const Superblock& block_;
  std::uint64_t sectors_;
  SparseArray<std::byte> piece_;
  std::uint64_t from_ = 0;
  std::uint64_t to_ = 0;
};

Error damaged(const Reader& reader, std::uint64_t number, const char* remedy) {
  return {
      "log of a store", EBADMSG, {}, remedy, static_cast<std::int64_t>(reader.offset_of(number))};
}
constexpr const char* kDamagedTail =
    "a sector is damaged where the log ends or goes on: a commit may be lost; "
    "StoreOptions::damaged_tail can take it for the end";

/// One record: found, or the end of the log.
class Scan {
 public:
  Scan(Reader& reader, const Superblock& block, RecoveredLog& found) noexcept
      : reader_(reader),
        block_(block),
        found_(found),
        epoch_(static_cast<std::uint32_t>(block.log_epoch)) {}

  /// False: the log ends here. `payload_bytes` of it are at `to`.
  Result<bool> record(std::byte* to, std::size_t& payload_bytes) {
    std::uint64_t sectors = 1;
    std::size_t left = 0;
    RecordHead head;
    std::uint64_t epoch = 0;
    for (std::uint64_t i = 0; i < sectors; ++i) {
      std::span<const std::byte> bytes;
      if (const Outcome outcome = reader_.sector(found_.next + i, bytes); failed(outcome))
        return outcome;
      const FoundSector sector = look_at_sector(bytes, found_.next + i, block_.seed);
      if (sector.kind == SectorKind::damaged) {
        damaged_ = found_.next + i;
        return false;
      }
      if (sector.kind == SectorKind::old) return false;
      found_.newest_epoch = std::max<std::uint64_t>(found_.newest_epoch, sector.head.epoch);
      if (i == 0) {
        // RACE sectors of a record that a crash cut off may lie beyond what was written since:
        // theirs is an older epoch.
        if (sector.head.epoch < epoch_ || sector.head.index != 0) return false;
        epoch = sector.head.epoch;
        std::memcpy(&head, bytes.data() + sizeof(SectorHead), sizeof head);
        if (head.payload_bytes > block_.log_bytes / 2 || head.payload_bytes % 8 != 0)
          return damaged(reader_, found_.next, "a record has an impossible length");
        sectors = sectors_for(head.payload_bytes, block_.log_unit);
        left = payload_bytes = head.payload_bytes;
      } else if (sector.head.epoch != epoch ||
                 (sector.head.index != i && sector.head.index != kFiller)) {
        return false;
      }
      const std::size_t skip = sizeof(SectorHead) + (i == 0 ? sizeof head : 0);
      const std::size_t part = std::min(left, kSectorBytes - skip);
      std::memcpy(to, bytes.data() + skip, part);
      to += part;
      left -= part;
    }
    epoch_ = epoch;
    found_.next += sectors;
    found_.records += 1;
    found_.commits = head.commit;
    return true;
  }
  [[nodiscard]] std::uint64_t damaged_sector() const noexcept { return damaged_; }

 private:
  Reader& reader_;
  const Superblock& block_;
  RecoveredLog& found_;
  std::uint64_t epoch_;  // of the last record
  std::uint64_t damaged_ = 0;
};

// Whether a record behind `damaged` was appended when that was durable already: then it has been
// acknowledged, and is not the torn end of what was being written.
Result<bool> was_durable(Reader& reader, const Superblock& block, std::uint64_t damaged) {
  const std::uint64_t end = block.log_start + reader.sectors();
  for (std::uint64_t number = damaged + 1; number < end; ++number) {
    std::span<const std::byte> bytes;
    if (const Outcome outcome = reader.sector(number, bytes); failed(outcome)) return outcome;
    const FoundSector sector = look_at_sector(bytes, number, block.seed);
    if (sector.kind != SectorKind::wanted || sector.head.index != 0) continue;
    RecordHead head;
    std::memcpy(&head, bytes.data() + sizeof(SectorHead), sizeof head);
    if (head.durable > damaged) return true;
  }
  return false;
}

}  // namespace

Result<RecoveredLog> recover_log(Disk& disk, const Superblock& block, bool forgiving,
                                 PendingRuns& runs) {
  RecoveredLog found;
  found.next = block.log_start;
  found.commits = block.commits;
  found.newest_epoch = block.epoch;
  if ((block.flags & kCleanFlag) != 0) return found;
  auto reader = Reader::create(disk, block);
  if (!reader) return reader.error();
  Scan scan(*reader, block, found);
  const std::uint64_t last = block.log_start + reader->sectors();
  while (found.next < last) {
    const std::uint64_t at = found.next;
    std::size_t payload_bytes = 0;
    const auto whole = scan.record(runs.next_payload(), payload_bytes);
    if (!whole) return whole.error();
    if (!*whole) break;
    if (!runs.add(payload_bytes)) return damaged(*reader, at, "a record makes no sense");
  }
  if (const std::uint64_t sector = scan.damaged_sector(); sector != 0) {
    if (!forgiving) return damaged(*reader, sector, kDamagedTail);
    const auto lost = was_durable(*reader, block, sector);
    if (!lost) return lost.error();
    if (*lost)
      return damaged(*reader, sector, "a sector is damaged that was durable: commits are lost");
    found.damaged_at = reader->offset_of(sector);
  }
  return found;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
