// FileView: the committed pages of a file, without the addresses that its pointers mean.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include <pagetrap/store/inspect.hpp>

#include "store/disk/file_disk.hpp"
#include "store/heap/header.hpp"
#include "store/pages/committed_pages.hpp"
#include "store/snapshot/snapshot_pages.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

/// What is written to it stays in memory: recovery runs on it, and the file is not touched.
class OverlayDisk final : public Disk {
 public:
  explicit OverlayDisk(std::unique_ptr<Disk> below) noexcept : below_(std::move(below)) {}
  Outcome read(std::span<std::byte> to, std::uint64_t offset) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  Outcome write(std::span<const std::byte> from, std::uint64_t offset) noexcept override;
  Outcome write_durably(std::span<const std::byte> from, std::uint64_t offset) noexcept override {
    return write(from, offset);
  }
  Outcome sync() noexcept override { return kDone; }
  Outcome extend(std::uint64_t) noexcept override { return {"growing a store", EROFS}; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return below_->size(); }
  [[nodiscard]] std::size_t unit() const noexcept override { return below_->unit(); }

 private:
  std::unique_ptr<Disk> below_;
  std::map<std::uint64_t, std::vector<std::byte>> written_;  // whole pages, by offset
};

class FileView {
 public:
  static Result<std::unique_ptr<FileView>> open(const std::string& path, DamagedTail damaged_tail,
                                                StoreInfo& info);
  static Result<std::unique_ptr<FileView>> open(std::unique_ptr<Disk> file,
                                                DamagedTail damaged_tail, StoreInfo& info);
  /// Beside a writer.
  static Result<std::unique_ptr<FileView>> open_in_use(const std::string& path, StoreInfo& info);

  Outcome load(PageNumber page, std::byte* to) noexcept;
  /// Bytes of the data at `address`.
  Outcome read(std::uint64_t address, std::span<std::byte> to) noexcept;
  Outcome verify_pages();
  Outcome verify_heap();
  /// Whether the page is inside a free run, neither its first nor its last: it holds nothing.
  [[nodiscard]] bool is_idle(PageNumber page) const noexcept {
    return page < idle_.size() && idle_[page];
  }
  [[nodiscard]] const Superblock& superblock() const noexcept { return block_; }
  [[nodiscard]] std::uint64_t used_pages() const noexcept { return header_.used_pages; }

 private:
  void describe_file(const RecoveredLog& log, std::uint64_t file_bytes, StoreInfo& info) const;
  Outcome read_heap(StoreInfo& info);
  Outcome read_roots(StoreInfo& info);
  Outcome count_free(std::uint64_t& pages);
  Outcome verify_map();
  /// The map's word that has the bit of the word at `address`. EBADMSG: there is none.
  Outcome read_marks(std::uint64_t address, std::uint64_t& marks) noexcept;
  Outcome read_table(std::uint64_t page, std::uint64_t index, PageNumber& table) noexcept;
  Outcome verify_pointer(std::uint64_t address) noexcept;
  [[nodiscard]] Outcome damaged(const char* what, std::uint64_t address) const noexcept;
  [[nodiscard]] bool is_inside(std::uint64_t address, std::uint64_t length) const noexcept;

  std::unique_ptr<OverlayDisk> disk_;
  Superblock block_;
  std::unique_ptr<CommittedPages> committed_;
  std::unique_ptr<SnapshotPages> snapshot_;  // instead of both
  HeapHeader header_;
  std::uint64_t last_chunk_ = ~std::uint64_t{0};  // that read_marks() looked for
  PageNumber last_table_ = 0;
  std::uint64_t stored_pages_ = 0;
  std::vector<bool> idle_;  // by page
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
