// ImageWriter: a checkpoint being written. Blocks may be added in any order and by several threads;
// the index says where each page is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <pagetrap/checkpoint/image.hpp>
#include <pagetrap/checkpoint/sink.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// Pages of one region that lie side by side, in memory and in a block.
struct BlockRun {
  std::uint32_t region = 0;  // index in ImageInfo::regions
  std::uint32_t pages = 0;
  std::uint64_t first_page = 0;  // of the region
};

inline constexpr std::size_t kMaxBlockPages = 512;

class ImageWriter {
 public:
  struct Counts {
    std::uint64_t pages_written = 0;  // stored in this image
    std::uint64_t pages_zero = 0;
    std::uint64_t pages_duplicate = 0;  // in blocks equal to an earlier one
    std::uint64_t bytes = 0;            // given to the sink so far
  };

  /// Writes the header. Of `info` these are read: page_size, id, parent, generation, created_ns,
  /// compression, regions. `sink` is borrowed, and neither committed nor abandoned here.
  /// Errors  EINVAL: no image can have such an `info`; ENOMEM; those of the sink.
  static Result<std::unique_ptr<ImageWriter>> begin(Sink& sink, const ImageInfo& info);
  virtual ~ImageWriter() = default;

  /// Adds the pages of `runs`, one after the other in `bytes`, at most kMaxBlockPages. Zero pages
  /// are found and not stored, and neither is a block that equals an earlier one. Encoding runs in
  /// the calling thread, writing excludes other callers. `bytes` must not change until this
  /// returns. No page may be added twice, which finish() finds out.
  ///
  /// Threads  any
  /// Errors  EINVAL: runs outside their regions, or not as long as `bytes`; nothing has changed
  ///         then. ENOMEM and those of the sink: the image can only be given up, and every later
  ///         call returns the same.
  virtual Result<Done> add(std::span<const BlockRun> runs, std::span<const std::byte> bytes) = 0;

  /// Index and footer. The sink is the caller's to commit.
  /// Errors  EINVAL: a page was added twice; ENOMEM; those of the sink.
  virtual Result<ImageInfo> finish() = 0;

  /// So far. Waits for nobody; threads: any.
  [[nodiscard]] virtual Counts counts() const = 0;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
