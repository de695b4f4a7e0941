// Images: checkpoints on disk, looked at, checked, flattened and taken apart. The format is in
// docs/formats/checkpoint.md. Nothing of an image is used before its checksum agrees, and nothing
// in a file, whoever wrote it, makes these functions crash.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <pagetrap/checkpoint/sink.hpp>
#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

enum class Compression : std::uint8_t {
  none,  // pages as they are, aligned: the image can be mapped
  lz4,
  zstd,
};
PAGETRAP_API const char* name(Compression compression) noexcept;

/// Names one image. All zero: none.
using ImageId = std::array<std::uint8_t, 16>;
/// As 32 hexadecimal digits.
PAGETRAP_API std::string text(const ImageId& id);

/// A named range of memory in an image.
struct ImageRegion {
  std::string name;
  std::uint64_t base = 0;        // its address when it was saved
  std::uint64_t size_bytes = 0;  // whole pages; pages that the chain does not have are zero
  std::uint64_t root = 0;        // the root object's address; 0: none
};

struct ImageInfo {
  std::uint32_t version = 0;
  std::uint32_t page_size = 0;
  ImageId id{};
  ImageId parent{};              // all zero: a full image
  std::uint64_t generation = 0;  // of its program's checkpoints; the parent's is smaller
  std::int64_t created_ns = 0;   // of the cut, since 1970
  Compression compression = Compression::none;
  std::vector<ImageRegion> regions;
  std::uint64_t pages = 0;       // stored, counting duplicates
  std::uint64_t zero_pages = 0;  // known to be zero, and not stored
  std::uint64_t blocks = 0;
  std::uint64_t stored_bytes = 0;  // of the blocks
  std::uint64_t file_bytes = 0;

  [[nodiscard]] bool incremental() const noexcept { return parent != ImageId{}; }
};

/// Told how far a long call is; returns false to stop it (ECANCELED). May be empty. Calls do not
/// overlap, but may come from any thread; the last one has done_bytes == total_bytes.
using Progress = std::function<bool(std::uint64_t done_bytes, std::uint64_t total_bytes)>;

/// Header and index of the image at `path`, checked. Cost  grows with the index, not the pages.
/// Errors  EBADMSG: damaged or cut short (position says where); ENOTSUP: another version, or made
///         with another page size than any this program can read; those of open(2) and read(2).
PAGETRAP_API Result<ImageInfo> inspect(const std::string& path);

/// One image of a chain, and the file it was found in.
struct ChainMember {
  std::string path;
  ImageInfo info;
};

/// The image at `path`, its parent, the parent's parent and so on to a full image, found and
/// checked as verify() does it, but for the blocks. Cost  grows with the indexes.
/// Errors  those of inspect(); ENOENT: a parent is missing; EBADMSG: parent and child contradict
///         each other.
PAGETRAP_API Result<std::vector<ChainMember>> inspect_chain(const std::string& path);

/// Reads every byte of the image and of its parents, which are found by their id among the files
/// of the same directory (but hidden ones), and checks that all can be loaded. Uses all processors.
/// Cost  reading speed.
/// Errors  those of inspect_chain().
PAGETRAP_API Result<ImageInfo> verify(const std::string& path, const Progress& progress = {});

/// Writes a full image with the contents of `path` and its parents to `sink`. What it reads is
/// verified. The new image has a new id, no parent, and the old one's generation and time.
/// Commits the sink, or abandons it on an error. `threads`  0: one for each processor.
PAGETRAP_API Result<ImageInfo> merge(const std::string& path, Sink& sink, Compression compression,
                                     const Progress& progress = {}, unsigned threads = 0);

/// Writes the bytes of one region, from its first page to its last, to `sink`, zeroes included (a
/// file_sink makes holes of them). Commits or abandons it.
/// Errors  those of verify(); EINVAL: no such region.
PAGETRAP_API Result<Done> extract(const std::string& path, const std::string& region, Sink& sink,
                                  const Progress& progress = {});

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
