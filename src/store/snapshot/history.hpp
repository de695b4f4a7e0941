// History: the writer's side of snapshots. Before a checkpoint overwrites pages that some snapshot
// may still want as they are, they are appended to the history. docs/design/store-snapshots.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "store/disk/disk.hpp"
#include "store/format/history.hpp"
#include "store/memory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

/// A page that is about to be overwritten.
struct BeforeImage {
  PageNumber page = 0;
  std::uint64_t sum = 0;  // as the file has it; 0: it was never written
  /// What it was to become, when that was interrupted: for when its place has half of it.
  const std::byte* staged = nullptr;
};

class History {
 public:
  /// Null for a disk whose file nobody else can read. A history that nobody needs any more goes.
  static Result<std::unique_ptr<History>> create(Disk& disk, const Superblock& block);
  /// The same, at the end.
  ~History();

  /// What snapshots need of `images`, in the order of pages. After an error they have to be told
  /// that they are lost (Superblock::snapshots_lost) before the pages are overwritten.
  Outcome keep(std::span<const BeforeImage> images);
  /// When there is no snapshot.
  void remove_if_unused() noexcept;

 private:
  History(Disk& disk, const SharedFile& shared, const Superblock& block) noexcept
      : disk_(disk),
        shared_(shared),
        path_(history_path(shared.path)),
        seed_(block.seed),
        data_offset_(block.data_offset) {}
  [[nodiscard]] bool store_is_at_its_path() noexcept;
  Outcome open();
  Outcome continue_file();
  Outcome write_end() noexcept;
  Outcome append(std::span<BeforeImage> images);
  void read_contents(std::span<BeforeImage> images, std::byte* to) noexcept;
  void forget_before(std::uint64_t page) noexcept;

  Disk& disk_;
  const SharedFile& shared_;
  const std::string path_;
  const std::uint64_t seed_;
  const std::uint64_t data_offset_;
  std::uint64_t inode_ = 0;
  OwnFile file_;
  std::uint64_t end_ = kFirstHistoryPage;        // in pages
  std::uint64_t forgotten_ = kFirstHistoryPage;  // before it are holes
  SparseArray<std::uint32_t> saved_;             // by page: where it was last, 0: nowhere
  SparseArray<std::byte> buffer_;
  std::vector<BeforeImage> wanted_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
