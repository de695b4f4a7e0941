// The records of a store's file. docs/formats/store.md says what they mean.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

/// Number of a page of data, from the first one of the store.
using PageNumber = std::uint32_t;

inline constexpr std::size_t kPageBytes = 4096;
inline constexpr PageNumber kHotPages = 2;  // at the front: the heap's header
inline constexpr std::size_t kSectorBytes = 512;
inline constexpr std::size_t kGroupPages = kPageBytes / sizeof(std::uint64_t);  // sums in a page
inline constexpr std::uint64_t kGroupBytes = (kGroupPages + 1) * kPageBytes;

// --- superblock ---------------------------------------------------------------------------------
inline constexpr std::uint64_t kSuperMagic = 0x0a31'7274'5370'7254;  // "TrpStr1\n"
inline constexpr std::uint32_t kVersion = 2;
inline constexpr std::uint32_t kOldestVersion = 1;  // without pointer maps: read, and made new
inline constexpr std::uint32_t kCleanFlag = 1;

struct Superblock {
  std::uint64_t magic = kSuperMagic;
  std::uint64_t sum = 0;  // of the slot's 4096 bytes, this field taken as zero
  std::uint32_t version = kVersion;
  std::uint32_t page_bytes = kPageBytes;
  std::uint32_t log_unit = kSectorBytes;  // records begin and end at multiples of it
  std::uint32_t flags = 0;
  std::uint64_t seed = 0;        // random, of this store: into every checksum
  std::uint64_t generation = 0;  // counts superblocks
  std::uint64_t epoch = 0;       // counts openings: 32 bits of it stand in log sectors
  std::uint64_t base = 0;        // address of data page 0
  std::uint64_t reserve_bytes = 0;
  std::uint64_t staging_offset = 0;
  std::uint64_t staging_bytes = 0;
  std::uint64_t log_offset = 0;
  std::uint64_t log_bytes = 0;
  std::uint64_t data_offset = 0;
  std::uint64_t file_bytes = 0;  // at least
  std::uint64_t log_start = 0;   // number of the first log sector that is not in the data pages
  std::uint64_t commits = 0;     // before that
  std::int64_t created_ns = 0;
  std::uint64_t log_epoch = 0;  // records from log_start on are of this one or later
  // Snapshots taken at this generation or before may miss pages: their history has no room.
  std::uint64_t snapshots_lost = 0;
};
static_assert(std::is_trivially_copyable_v<Superblock> && sizeof(Superblock) <= 512);
inline constexpr std::array<std::uint64_t, 2> kSlotOffsets{0, kPageBytes};
inline constexpr std::uint64_t kStagingOffset = 2 * kPageBytes;

// --- log ----------------------------------------------------------------------------------------
// Sector `number` of the log is at `number` modulo the sectors there are. A sector of all zeroes
// has never been written. Numbers begin with one lap, so that none is 0.
struct SectorHead {
  std::uint64_t number = 0;
  std::uint32_t epoch = 0;
  std::uint32_t index = 0;  // in its record; kFiller: padding to the log unit
  std::uint64_t sum = 0;    // of the sector, this field taken as zero
};
static_assert(sizeof(SectorHead) == 24);
inline constexpr std::uint32_t kFiller = ~std::uint32_t{0};
inline constexpr std::size_t kSectorPayload = kSectorBytes - sizeof(SectorHead);

/// What a record begins with; runs follow.
struct RecordHead {
  std::uint64_t payload_bytes = 0;  // of the runs
  std::uint64_t commit = 0;         // counts commits of the store
  std::uint64_t durable = 0;        // sectors before this one were, when the record was appended
};

/// A run of changed bytes in one page: this word, then the bytes.
///   bits 0 to 47   place in the data, a multiple of 8
///   bits 48 to 63  length in units of 8 bytes, 1 to 512
struct Run {
  std::uint64_t place = 0;
  std::size_t length = 0;
  [[nodiscard]] static constexpr std::uint64_t pack(std::uint64_t place,
                                                    std::size_t length) noexcept {
    return place | static_cast<std::uint64_t>(length / 8) << 48;
  }
  [[nodiscard]] static constexpr Run unpack(std::uint64_t word) noexcept PAGETRAP_SIGNAL_SAFE {
    return {word & 0xffff'ffff'ffff, static_cast<std::size_t>(word >> 48) * 8};
  }
};

// --- staging area -------------------------------------------------------------------------------
inline constexpr std::uint64_t kStagingMagic = 0x0a31'6753'7053'7254;  // "TrSpSg1\n"
inline constexpr std::size_t kStagingHeadBytes = 4 * kPageBytes;
struct StagedPage {
  std::uint64_t offset = 0;  // in the file
  std::uint64_t sum = 0;     // of the page, with its offset
};
struct StagingHead {
  std::uint64_t magic = kStagingMagic;
  std::uint64_t sum = 0;  // of the head's kStagingHeadBytes, this field taken as zero
  std::uint64_t count = 0;
  std::uint64_t reserved = 0;
};
inline constexpr std::size_t kMostStagedPages = 1020;
[[nodiscard]] constexpr std::size_t staged_pages(std::uint64_t staging_bytes) noexcept {
  return (staging_bytes - kStagingHeadBytes) / kPageBytes;
}
[[nodiscard]] constexpr std::uint64_t staging_bytes(std::size_t pages) noexcept {
  return kStagingHeadBytes + pages * kPageBytes;
}
static_assert(sizeof(StagingHead) + kMostStagedPages * sizeof(StagedPage) <= kStagingHeadBytes);

// --- history: history.hpp -----------------------------------------------------------------------
inline constexpr std::uint64_t kMostHistoryPages = std::uint64_t{1} << 32;

// --- data ---------------------------------------------------------------------------------------
// Groups of a page of checksums and the 512 pages that they are of.
[[nodiscard]] constexpr std::uint64_t offset_of_sums(std::uint64_t data_offset,
                                                     std::uint64_t group) noexcept
    PAGETRAP_SIGNAL_SAFE {
  return data_offset + group * kGroupBytes;
}
[[nodiscard]] constexpr std::uint64_t offset_of_page(std::uint64_t data_offset,
                                                     PageNumber page) noexcept
    PAGETRAP_SIGNAL_SAFE {
  return offset_of_sums(data_offset, page / kGroupPages) + kPageBytes +
         std::uint64_t{page % kGroupPages} * kPageBytes;
}
/// Which one is at `offset`, or whose checksum: then it is the group's first.
[[nodiscard]] constexpr PageNumber page_at(std::uint64_t data_offset,
                                           std::uint64_t offset) noexcept {
  const std::uint64_t group = (offset - data_offset) / kGroupBytes;
  const std::uint64_t index = (offset - data_offset) % kGroupBytes / kPageBytes;
  return static_cast<PageNumber>(group * kGroupPages + (index == 0 ? 0 : index - 1));
}
[[nodiscard]] constexpr bool is_offset_of_sums(std::uint64_t data_offset,
                                               std::uint64_t offset) noexcept {
  return (offset - data_offset) % kGroupBytes == 0;
}
/// How many groups a file of `bytes` has whole.
[[nodiscard]] constexpr std::uint64_t groups_in(std::uint64_t data_offset,
                                                std::uint64_t bytes) noexcept {
  return bytes <= data_offset ? 0 : (bytes - data_offset) / kGroupBytes;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
