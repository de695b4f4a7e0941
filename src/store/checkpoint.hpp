// Checkpoint: brings the data pages of the file up to the log, so that the log can be used again.
// docs/design/store.md, "Checkpoint".
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "store/disk/disk.hpp"
#include "store/format/layout.hpp"
#include "store/log/log.hpp"
#include "store/pages/committed_pages.hpp"
#include "store/snapshot/history.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

struct CheckpointStatistics {
  std::uint64_t checkpoints = 0;
  std::uint64_t pages = 0;
  std::uint64_t bytes = 0;  // written, staging area included
};

class Checkpoint {
 public:
  static Result<std::unique_ptr<Checkpoint>> create(Disk& disk, Log& log, CommittedPages& pages,
                                                    const Superblock& block);

  /// One at a time; commits go on meanwhile. After an error everything is as before: the log keeps
  /// what it has.
  /// `commits`  how many there have been; read together with the end of the log.
  Outcome run(const std::atomic<std::uint64_t>& commits);
  /// A new epoch on the medium, before the first record of it; nothing if a checkpoint did that.
  Outcome begin_epoch();
  /// The last one: nobody commits any more.
  Outcome close(const std::atomic<std::uint64_t>& commits);
  [[nodiscard]] CheckpointStatistics statistics() const;

 private:
  Checkpoint(Disk& disk, Log& log, CommittedPages& pages, const Superblock& block) noexcept
      : disk_(disk), log_(log), pages_(pages), block_(block) {}
  Outcome make_room(PageNumber last);
  Outcome run_locked(const std::atomic<std::uint64_t>& commits, bool clean);
  std::size_t next_batch(std::span<const PageNumber> rest);
  Outcome copy(std::span<const PageNumber> batch);
  Outcome add_sums(std::span<const PageNumber> batch);
  Outcome write_staging();
  Outcome write_in_place();
  Outcome keep_for_snapshots();
  std::byte* staged(std::size_t index) const noexcept {
    return buffer_.data() + kStagingHeadBytes + index * kPageBytes;
  }

  Disk& disk_;
  Log& log_;
  CommittedPages& pages_;
  mutable std::mutex lock_;
  Superblock block_;               // GUARDED_BY(lock_), as all below
  bool epoch_is_written_ = false;  // is block_.epoch on the medium?
  SparseArray<std::byte> buffer_;  // the staging area as it is written
  std::size_t most_pages_ = 0;
  std::vector<StagedPage> entries_;   // of it
  std::size_t batch_pages_ = 0;       // how many of them are not checksums
  bool half_placed_ = false;          // an error: they may be half in their places
  std::unique_ptr<History> history_;  // null: nobody can take snapshots
  std::vector<BeforeImage> images_;   // of the batch
  CheckpointStatistics statistics_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
