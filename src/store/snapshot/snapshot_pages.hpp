// SnapshotPages: the contents of every page as of one commit, from a file that a writer goes on to
// change. Its member functions stand in the order in which they matter to that;
// docs/design/store-snapshots.md says why the result is a commit.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "store/disk/file_disk.hpp"
#include "store/log/pending.hpp"
#include "store/log/recovery.hpp"
#include "store/log/staging.hpp"
#include "store/snapshot/kept_pages.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class SnapshotPages {
 public:
  static Result<std::unique_ptr<SnapshotPages>> open(const std::string& path);

  /// Takes the newest commit. `changed` gets the pages that may differ from what they were; nothing
  /// if they are all of them (`all`). After an error the old one is still there. Nobody may be
  /// reading pages.
  struct Changes {
    bool any = false;
    bool all = false;
    std::vector<PageNumber> pages;
  };
  Result<Changes> refresh();

  /// Contents of `count` pages from `first` on, all of one group, verified, to `to`. Fewer than
  /// wanted are `loaded` if one cannot be had; the outcome is that of the first.
  Outcome load(PageNumber first, std::size_t count, std::byte* to, std::size_t& loaded) noexcept
      PAGETRAP_SIGNAL_SAFE;

  [[nodiscard]] const Superblock& superblock() const noexcept { return taken_.block; }
  [[nodiscard]] unsigned intact_superblocks() const noexcept { return taken_.intact; }
  [[nodiscard]] const RecoveredLog& log() const noexcept { return taken_.log; }
  /// Pages that the file or the log knows; the others are zeroes.
  [[nodiscard]] std::uint64_t stored_pages() const noexcept { return taken_.stored_pages; }
  [[nodiscard]] std::uint64_t file_bytes() const noexcept { return disk_->size(); }

 private:
  /// What a snapshot remembers of the moment when it was taken.
  struct Taken {
    Superblock block;
    unsigned intact = 0;
    std::uint64_t history_page = kFirstHistoryPage;
    Staged staged;  // by offset
    PendingRuns runs;
    RecoveredLog log;
    std::uint64_t file_pages = 0;
    std::uint64_t stored_pages = 0;
  };
  SnapshotPages() = default;
  Outcome take(Taken& taken);
  Outcome try_to_take(Taken& taken, bool& steady);
  Outcome keep_place(const Taken& taken);
  Result<Changes> changes_to(const Taken& next);
  [[nodiscard]] const std::byte* staged(std::uint64_t offset) const noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] std::uint64_t sum_of(PageNumber page, std::uint64_t in_file) const noexcept
      PAGETRAP_SIGNAL_SAFE;
  Outcome check_not_lost() noexcept PAGETRAP_SIGNAL_SAFE;
  Outcome read_run(PageNumber first, std::size_t count, std::byte* to, std::uint64_t* sums) noexcept
      PAGETRAP_SIGNAL_SAFE;
  Outcome finish(PageNumber page, std::uint64_t sum, const Outcome& kept, const Outcome& read,
                 std::byte* contents) noexcept PAGETRAP_SIGNAL_SAFE;

  std::unique_ptr<FileDisk> disk_;
  std::uint64_t inode_ = 0;
  KeptPages kept_;
  Taken taken_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
