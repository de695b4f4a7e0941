// Where a checkpoint goes: a file that appears whole or not at all, a descriptor, or anything that
// takes bytes in order.
#pragma once

#include <cstddef>
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
  /// The image is whole: make it permanent, and visible under its name. Only then is there a new
  /// checkpoint.
  virtual Result<Done> commit() = 0;
  /// There will be no commit(): leave no trace.
  virtual void abandon() noexcept = 0;
};

/// A file called `path`. Written beside it under a temporary name, then fsync, rename over `path`,
/// fsync of the directory: whatever happens in between, `path` is what it was before. Temporary
/// files that a killed process left in the directory are removed.
/// Errors  those of open(2); ENOSPC and EIO come from write() or commit().
PAGETRAP_API Result<std::unique_ptr<Sink>> file_sink(const std::string& path);

/// An open descriptor: a pipe, a socket, a file (from its current position on). Borrowed, not
/// closed. commit() flushes what can be flushed (fsync; not pipes). A reader of the pipe that has
/// gone is EPIPE, not SIGPIPE.
PAGETRAP_API Result<std::unique_ptr<Sink>> descriptor_sink(int descriptor);

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
