// Chain: an image and its parents as one: for each page, where its newest contents are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <pagetrap/checkpoint/image.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// A piece of a block that is the newest contents of its pages.
struct ChainPiece {
  std::uint32_t region = 0;
  std::uint32_t pages = 0;
  std::uint64_t first_page = 0;     // of the region
  std::uint32_t page_in_block = 0;  // where in the decoded block
};

/// A stored block that some page of the chain needs, with all the pieces that need it.
struct ChainBlock {
  std::uint32_t image = 0;  // index in the chain: 0 is the newest
  std::uint32_t block = 0;  // in that image
  std::uint32_t pages = 0;  // decoded
  std::uint32_t first_piece = 0;
  std::uint32_t piece_count = 0;
};

class Chain {
 public:
  /// Opens the image at `path` and, by id, its parents in the same directory. Headers, indexes and
  /// footers are checked; blocks are not read yet. Keeps a descriptor for each image.
  /// Errors  those of inspect_chain(); EMFILE: merge the chain.
  static Result<std::unique_ptr<Chain>> open(const std::string& path);
  virtual ~Chain() = default;

  [[nodiscard]] virtual const ImageInfo& info() const noexcept = 0;  // of the newest image
  [[nodiscard]] virtual std::size_t images() const noexcept = 0;
  /// Of one of them, 0 being the newest. Regions are matched by name and may be in another order.
  [[nodiscard]] virtual const ImageInfo& image_info(std::uint32_t index) const noexcept = 0;
  [[nodiscard]] virtual const std::string& image_path(std::uint32_t index) const noexcept = 0;
  /// Sorted by the smallest (region, page) of their pieces. Pages in no piece are zero.
  [[nodiscard]] virtual std::span<const ChainBlock> blocks() const noexcept = 0;
  [[nodiscard]] virtual std::span<const ChainPiece> pieces(
      const ChainBlock& block) const noexcept = 0;

  /// Reads one block, checks it and decodes it to `out` (block.pages * page size). Threads: any, at
  /// once. `scratch` is a buffer that the thread keeps for its next call. Not signal-safe.
  virtual Result<Done> load(const ChainBlock& block, std::span<std::byte> out,
                            std::vector<std::byte>& scratch) const = 0;

  /// Reads, checks and expands any block of image `index`, whether the chain needs it or not.
  /// Returns how many bytes it has in the file. Both buffers are the thread's, for its next call.
  virtual Result<std::uint64_t> check_block(std::uint32_t index, std::uint32_t block,
                                            std::vector<std::byte>& pages,
                                            std::vector<std::byte>& scratch) const = 0;

  /// Where in its image's file a block's pages lie unencoded and page-aligned, so that they
  /// can be mapped; -1 if they do not.
  [[nodiscard]] virtual std::int64_t mappable_offset(const ChainBlock& block) const noexcept = 0;
  /// The descriptor of image `index`, borrowed.
  [[nodiscard]] virtual int descriptor(std::uint32_t index) const noexcept = 0;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
