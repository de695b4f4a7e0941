#include <pagetrap/pager/file_source.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {
namespace {

constexpr std::size_t kMostVectors = 16;  // pages in one call; more gains nothing
alignas(64) constexpr std::byte kZeroes[4096] = {};

// Only regular files and block devices have a length and may be read at any place.
Result<std::uint64_t> length_of(int file) {
  struct stat facts {};
  if (::fstat(file, &facts) != 0) return Error{"fstat", errno};
  if (S_ISREG(facts.st_mode)) return static_cast<std::uint64_t>(facts.st_size);
  const off_t end = S_ISBLK(facts.st_mode) ? ::lseek(file, 0, SEEK_END) : -1;
  if (end >= 0) return static_cast<std::uint64_t>(end);
  return Error{"FileSource::open", EINVAL, {}, "neither a regular file nor a block device"};
}

Result<Done> check_rights(int file, bool writable) {
  const int flags = ::fcntl(file, F_GETFL);
  if (flags < 0) return Error{"fcntl of FileSourceOptions.file", errno};
  const int mode = flags & O_ACCMODE;
  if (mode == O_WRONLY || (writable && mode != O_RDWR))
    return Error{"FileSource::open", EACCES, {}, "the file is not open for what is asked"};
  if (writable && (flags & O_APPEND) != 0)
    return Error{"FileSource::open", EINVAL, {}, "O_APPEND would put every page at the end"};
  return Done{};
}

}  // namespace

Result<FileSource> FileSource::open(const FileSourceOptions& options) {
  if (auto rights = check_rights(options.file, options.writable); !rights) return rights.error();
  auto size = length_of(options.file);
  if (!size) return size.error();
  std::uint64_t length = options.length;
  if (length == 0) length = *size > options.offset ? *size - options.offset : 0;
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 62;
  if (length == 0 || options.offset > kLargest || length > kLargest)
    return Error{"FileSource::open", EINVAL, {}, "no bytes of the file are meant"};
  const int file = ::fcntl(options.file, F_DUPFD_CLOEXEC, 0);
  if (file < 0) return Error{"dup of FileSourceOptions.file", errno};
  return FileSource(file, options, length);
}

FileSource::FileSource(int file, const FileSourceOptions& options, std::uint64_t length) noexcept
    : file_(file), options_(options), length_(length) {}

FileSource::FileSource(FileSource&& other) noexcept
    : file_(std::exchange(other.file_, -1)), options_(other.options_), length_(other.length_) {}

FileSource::~FileSource() {
  if (file_ >= 0) ::close(file_);
}

SourceTraits FileSource::traits() const noexcept {
  return {.pure = !options_.writable,
          .retains_copy = true,
          .may_block = !options_.in_faulting_thread,
          .shared_store = options_.writable};
}

Transfer FileSource::fill(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE {
  std::size_t done = 0;
  while (done < pages.size()) {
    // Neighbours in one call.
    std::array<sys::Buffer, kMostVectors> vector;
    std::size_t count = 0;
    while (count < kMostVectors && done + count < pages.size() &&
           pages[done + count].index == pages[done].index + count) {
      vector[count] = {pages[done + count].bytes, page_size()};
      ++count;
    }
    const std::uint64_t start = pages[done].index << page_shift();
    const std::uint64_t wanted =
        start < length_ ? std::min<std::uint64_t>(count << page_shift(), length_ - start) : 0;
    std::uint64_t got = 0;
    const int error = wanted == 0 ? 0
                                  : sys::read_at(file_, std::span(vector).first(count), wanted,
                                                 options_.offset + start, got);
    // Whole pages before an error are good.
    if (error != 0) {
      const std::size_t good = static_cast<std::size_t>(got >> page_shift());
      return {
          .done = done + good,
          .error = Error{
              "pread", error, {}, "", static_cast<std::int64_t>(options_.offset + start + got)}};
    }
    // Beyond the end of the file, and of what is meant of it.
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t page_start = std::uint64_t{i} << page_shift();
      if (got >= page_start + page_size()) continue;
      const std::uint64_t from = got > page_start ? got - page_start : 0;
      std::memset(pages[done + i].bytes + from, 0, page_size() - from);
    }
    done += count;
  }
  return {.done = done};
}

// The last page is cut at the length: what the program put behind it has no place in the file.
Transfer FileSource::write_back(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::size_t done = 0; done < pages.size(); ++done) {
    const std::uint64_t start = pages[done].index << page_shift();
    if (start >= length_) continue;
    const std::size_t size = std::min<std::uint64_t>(page_size(), length_ - start);
    if (const int error = sys::pwrite_all(file_, pages[done].bytes, size, options_.offset + start))
      return {.done = done,
              .error = Error{
                  "pwrite", error, {}, "", static_cast<std::int64_t>(options_.offset + start)}};
  }
  return {.done = pages.size()};
}

// Contents that nobody wants become a hole, where the file system can: it reads as zeroes, as a
// fresh page must.
void FileSource::forget(std::uint64_t first, std::size_t count) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t start = first << page_shift();
  if (!options_.writable || start >= length_) return;
  const std::uint64_t size = std::min<std::uint64_t>(count << page_shift(), length_ - start);
  if (sys::punch_hole(file_, options_.offset + start, size) == 0) return;
  for (std::uint64_t at = 0; at < size; at += sizeof kZeroes) {
    const std::size_t part = std::min<std::uint64_t>(sizeof kZeroes, size - at);
    if (sys::pwrite_all(file_, kZeroes, part, options_.offset + start + at) != 0) return;
  }
}

void FileSource::prefetch(std::uint64_t first, std::size_t count) noexcept {
  static_cast<void>(
      ::posix_fadvise(file_, static_cast<off_t>(options_.offset + (first << page_shift())),
                      static_cast<off_t>(count << page_shift()), POSIX_FADV_WILLNEED));
}

Result<Done> FileSource::sync() {
  if (::fdatasync(file_) != 0) return Error{"fdatasync", errno};
  return Done{};
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
