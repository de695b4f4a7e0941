// StoredImage: one image file, opened and checked as far as that goes without reading its blocks.
// All that it returns has been found consistent: offsets lie inside the file, runs inside regions
// and blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <pagetrap/checkpoint/image.hpp>
#include <pagetrap/core/result.hpp>

#include "checkpoint/image/codec.hpp"
#include "checkpoint/image/layout.hpp"
#include "checkpoint/image/pool.hpp"
#include "sys/fd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// Error of a damaged file at byte `position`.
Error damaged(std::uint64_t position, const char* what) noexcept;

class StoredImage {
 public:
  /// Reads header, footer and index. `path` relative to the directory `at` (AT_FDCWD: the current
  /// one).
  static Result<std::unique_ptr<StoredImage>> open(int at, const char* path);

  [[nodiscard]] const ImageInfo& info() const noexcept { return info_; }
  [[nodiscard]] int descriptor() const noexcept { return file_.get(); }

  [[nodiscard]] std::uint32_t block_count() const noexcept { return block_count_; }
  /// Precondition: number < block_count().
  [[nodiscard]] layout::Block block(std::uint32_t number) const noexcept {
    return layout::record_at<layout::Block>(
        index_, sizeof(layout::IndexHead) + sizeof(layout::Block) * std::size_t{number});
  }
  [[nodiscard]] std::size_t run_count() const noexcept { return run_count_; }
  /// Sorted by (region, first_page), disjoint. Precondition: number < run_count(), and the runs
  /// were not dropped.
  [[nodiscard]] layout::Run run(std::size_t number) const noexcept {
    return layout::record_at<layout::Run>(index_, runs_at_ + sizeof(layout::Run) * number);
  }
  /// Gives the memory of the runs back; whoever needs them has made something better of them.
  void drop_runs();

  /// Reads, checks and expands a block to `out`, which has its size. Threads: any, at once.
  Result<Done> load(std::uint32_t number, std::span<std::byte> out,
                    std::vector<std::byte>& scratch) const;

 private:
  StoredImage() = default;
  Result<Done> read_header();
  Result<Done> read_regions(std::span<const std::byte> header_bytes, std::uint32_t count);
  Result<Done> read_footer(layout::Footer& footer) const;
  Result<Done> read_index();
  Result<Done> check_blocks(std::uint64_t index_offset);
  Result<Done> check_runs(std::uint64_t runs_position);
  Result<Done> read(std::span<std::byte> bytes, std::uint64_t position) const;

  sys::Descriptor file_;
  ImageInfo info_;
  std::uint64_t header_bytes_ = 0;
  std::vector<std::byte> index_;  // as in the file
  std::uint32_t block_count_ = 0;
  std::size_t run_count_ = 0;
  std::size_t runs_at_ = 0;  // in index_
  mutable Pool<Codec> codecs_;
};

/// Id of the image in `path`, if that file begins as images do. Reads the first 88 bytes.
std::optional<ImageId> peek_id(int at, const char* path) noexcept;

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
