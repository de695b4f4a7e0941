// A source that is a part of a file, or of a device.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include <pagetrap/pager/source.hpp>

namespace pagetrap {
inline namespace v0 {
namespace pager {

struct FileSourceOptions {
  int file = -1;             // duplicated, stays the caller's
  std::uint64_t offset = 0;  // of the region's first byte
  std::uint64_t length = 0;  // bytes that may be touched; 0: to where the file ends now
  bool writable = false;     // else the region is read-only
  /// pread(2) in the faulting thread, inside the signal handler: right where reads come from the
  /// page cache and the program makes no system calls into the region's pages.
  bool in_faulting_thread = false;
};

/// Pages are read and written at their offset. What lies beyond the end of the file reads as
/// zeroes, and writing there grows the file, up to the region's end but never past `offset +
/// length`. Errors of the device (EIO, ENOSPC, EFBIG) are the region's failures.
class PAGETRAP_API FileSource final : public Source {
 public:
  /// Errors  EBADF, EINVAL (a directory, a pipe), EACCES: opened without the right to write.
  static Result<FileSource> open(const FileSourceOptions& options);
  ~FileSource() override;
  FileSource(FileSource&& other) noexcept;
  FileSource& operator=(FileSource&&) = delete;

  [[nodiscard]] std::uint64_t length() const noexcept { return length_; }
  [[nodiscard]] SourceTraits traits() const noexcept override;
  Transfer fill(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE override;
  Transfer write_back(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE override;
  void forget(std::uint64_t first, std::size_t count) noexcept PAGETRAP_SIGNAL_SAFE override;
  void prefetch(std::uint64_t first, std::size_t count) noexcept override;
  /// fdatasync(2).
  Result<Done> sync();

 private:
  FileSource(int file, const FileSourceOptions& options, std::uint64_t length) noexcept;
  int file_ = -1;
  FileSourceOptions options_;
  std::uint64_t length_ = 0;
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
