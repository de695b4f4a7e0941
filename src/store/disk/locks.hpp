// Locks of a store's file: ranges of bytes far behind its end, which nobody reads or writes. They
// belong to the open file description (OFD locks), so that whoever dies gives them back: there is
// no lock file and no table of readers that somebody would have to tidy up.
//
//   writer     exclusive: an open store. Shared: who looks at the file while it must stay as it is
//   snapshots  shared: byte `n` is that of readers who need what the history has from page `n` on;
//              the last byte, that of readers who do not know yet. Exclusive: the history is
//              removed
#pragma once

#include <cstdint>
#include <optional>

#include "store/format/layout.hpp"
#include "store/outcome.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

struct LockRange {
  std::uint64_t first = 0;
  std::uint64_t count = 0;  // 0: all that follow
};
inline constexpr LockRange kWriterLock{0, std::uint64_t{1} << 61};
inline constexpr LockRange kSnapshotLocks{std::uint64_t{1} << 62, kMostHistoryPages + 1};
inline constexpr LockRange kJoiningLock{kSnapshotLocks.first + kMostHistoryPages, 1};
[[nodiscard]] constexpr LockRange snapshot_lock(std::uint64_t history_page) noexcept {
  return {kSnapshotLocks.first + history_page, 1};
}

enum class Lock : std::uint8_t { none, shared, exclusive };

/// EBUSY: somebody else has one that excludes it. Nobody is waited for.
Outcome set_lock(int descriptor, Lock lock, LockRange range) noexcept;

/// One of the locks that others have in `range`, of either kind; cut to it.
Result<std::optional<LockRange>> find_lock(int descriptor, LockRange range) noexcept;

/// Which pages of the history readers need, or nothing if there are no readers.
struct SnapshotsInUse {
  std::uint64_t oldest = 0;
  std::uint64_t newest = 0;
};
Result<std::optional<SnapshotsInUse>> snapshots_in_use(int descriptor) noexcept;

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
