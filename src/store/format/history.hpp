// The history beside a store: what pages were before a checkpoint wrote them, for the snapshots
// that were taken until then. docs/formats/store.md, "History".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "store/format/checksum.hpp"
#include "store/format/layout.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

inline constexpr std::uint64_t kHistoryMagic = 0x0a31'7348'5370'7254;  // "TrpSHs1\n"

/// The first page of the file.
struct HistoryHead {
  std::uint64_t magic = kHistoryMagic;
  std::uint64_t seed = 0;   // the store's
  std::uint64_t inode = 0;  // of the store's file: a copy of it has a history of its own
  std::uint64_t end = 0;    // in pages: what is before is there
  std::uint64_t end_inverted = 0;
};
inline constexpr std::uint64_t kFirstHistoryPage = 1;

/// Batches follow: this, `count` entries, and from the next whole page on the contents of those
/// whose sum is not 0, in order.
struct HistoryBatch {
  std::uint64_t sum = 0;  // of this, taken as zero, and the entries
  std::uint64_t count = 0;
  std::uint64_t contents = 0;
  std::uint64_t reserved = 0;
};
struct HistoryEntry {
  std::uint64_t page = 0;
  std::uint64_t sum = 0;  // of the page, as the data has it; 0: it was zeroes
};
[[nodiscard]] constexpr std::uint64_t head_pages(std::uint64_t entries) noexcept
    PAGETRAP_SIGNAL_SAFE {
  return (sizeof(HistoryBatch) + entries * sizeof(HistoryEntry) + kPageBytes - 1) / kPageBytes;
}

/// Readers take the entries in pieces: so does the checksum.
inline constexpr std::size_t kEntriesAtOnce = 64;
[[nodiscard]] inline std::uint64_t sum_of(HistoryBatch batch, std::uint64_t seed) noexcept
    PAGETRAP_SIGNAL_SAFE {
  batch.sum = 0;
  return checksum(std::as_bytes(std::span(&batch, std::size_t{1})), seed);
}
[[nodiscard]] inline std::uint64_t add_to_sum(std::uint64_t sum,
                                              std::span<const HistoryEntry> entries) noexcept
    PAGETRAP_SIGNAL_SAFE {
  return checksum(std::as_bytes(entries), sum);
}

[[nodiscard]] inline std::string history_path(const std::string& store) {
  return store + ".history";
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
