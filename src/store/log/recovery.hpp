// Recovery: the committed prefix that a log holds.
#pragma once

#include <cstdint>

#include "store/disk/disk.hpp"
#include "store/format/layout.hpp"
#include "store/log/pending.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

struct RecoveredLog {
  std::uint64_t next = 0;  // the sector after the last whole record
  std::uint64_t records = 0;
  std::uint64_t commits = 0;  // number of the last one
  std::uint64_t newest_epoch = 0;
  std::uint64_t damaged_at = 0;  // offset of the sector that was taken for the end although it is
                                 // neither old nor new; 0: none
};

/// Reads the records from block.log_start on, to `runs`.
/// `forgiving`  a damaged sector is the log's end, unless a later record knows it as durable; else
///              it is an error. A medium that tears only at 512 bytes leaves none.
Result<RecoveredLog> recover_log(Disk& disk, const Superblock& block, bool forgiving,
                                 PendingRuns& runs);

/// Puts a checkpoint that was interrupted right: the pages of the staging area are written to their
/// places again, if it has all of them. Returns how many. `block` changes if snapshots of other
/// processes are lost by that.
Result<std::uint64_t> replay_staging(Disk& disk, Superblock& block);

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
