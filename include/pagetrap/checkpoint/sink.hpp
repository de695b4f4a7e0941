// Where a checkpoint goes: a file that appears whole or not at all, a descriptor, or anything that
// takes bytes in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// Takes an image, front to back. One image for each sink.
///
/// Threads  calls never overlap, but may come from different threads.
class PAGETRAP_API Sink {
 public:
  virtual ~Sink() = default;
  /// All of `bytes`, or an Error. After an error only abandon() is called.
  virtual Result<Done> write(std::span<const std::byte> bytes) = 0;
  /// `count` zero bytes, for a sink that has something better than writing them. Images have no
  /// use for it; extract() has.
  virtual Result<Done> write_zeroes(std::uint64_t count);
  /// The image is whole: make it permanent, and visible under its name. Only then is there a new
  /// checkpoint.
  virtual Result<Done> commit() = 0;
  /// The file that will hold the image; empty: no file. An increment is only written where its
  /// parents are, and not in the place of one of them.
  [[nodiscard]] virtual std::string path() const { return {}; }
  /// There will be no commit(): leave no trace.
  virtual void abandon() noexcept = 0;
};

/// A file called `path`, readable by its owner only: it holds a program's memory. Written beside it
/// under a temporary name, then fsync, rename over `path`, fsync of the directory: whatever happens
/// in between, `path` is what it was before. Temporary files that killed processes left in the
/// directory (`.NAME.PID-RANDOM.tmp`, which no process has locked) are removed. Destroying a sink
/// that was not committed abandons it.
/// Errors  those of open(2); EINVAL: `path` is a device or the like. ENOSPC, EIO and EFBIG (without
///         SIGXFSZ) come from write() or commit().
PAGETRAP_API Result<std::unique_ptr<Sink>> file_sink(const std::string& path);

/// An open descriptor: a pipe, a socket, a file (from its current position on). Borrowed, not
/// closed. It may be one that does not wait (O_NONBLOCK). commit() flushes what can be flushed
/// (fsync; not pipes). What was written stays written after abandon(); a reader tells by the
/// missing end. A reader that has gone is EPIPE and not SIGPIPE, which the calling thread blocks
/// meanwhile and takes away. Errors  EBADF: not a descriptor, or not open for writing.
PAGETRAP_API Result<std::unique_ptr<Sink>> descriptor_sink(int descriptor);

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
