#include "store/disk/file_disk.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>

#include "store/disk/locks.hpp"
#include "sys/fd.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

constexpr std::size_t kDirectAlignment = 4096;
// Reads of at least this much, as of a log, would only push other things out of the page cache.
constexpr std::size_t kBulkRead = std::size_t{64} << 10;

const char* remedy_for(int error) noexcept {
  switch (error) {
    case ENOSPC:
      return "the file system is full: nothing committed is lost; make room and go on";
    case EDQUOT:
      return "the quota is used up: nothing committed is lost";
    case EFBIG:
      return "the file may not become so large (RLIMIT_FSIZE, file system)";
    default:
      return "";
  }
}

Outcome error_at(const char* operation, int error, std::uint64_t offset) noexcept {
  return {operation, error, {}, remedy_for(error), static_cast<std::int64_t>(offset)};
}

bool is_aligned(const void* address, std::size_t length, std::uint64_t offset) noexcept
    PAGETRAP_SIGNAL_SAFE {
  return ((reinterpret_cast<std::uintptr_t>(address) | length | offset) & (kDirectAlignment - 1)) ==
         0;
}

// What a direct transfer may be as small as, or 0 if there are none here: found by reading, since
// that changes nothing. The file must be longer than that, or nobody looks at the alignment.
std::size_t direct_unit(int descriptor) noexcept {
  alignas(kDirectAlignment) std::array<std::byte, kDirectAlignment> buffer;
  for (const std::size_t unit : {std::size_t{512}, kDirectAlignment})
    if (::pread(descriptor, buffer.data(), unit, 0) >= 0 &&
        (unit == kDirectAlignment || ::pread(descriptor, buffer.data(), unit, 512) >= 0))
      return unit;
  return 0;
}

}  // namespace

Result<std::unique_ptr<FileDisk>> FileDisk::open(const std::string& path, FileUse use) {
  std::unique_ptr<FileDisk> disk(new FileDisk);
  disk->process_ = ::getpid();
  const bool writes = use == FileUse::existing || use == FileUse::create;
  const int access = writes ? O_RDWR : O_RDONLY;
  const int create = use == FileUse::create ? O_CREAT | O_EXCL : 0;
  if (!disk->cached_.open(path.c_str(), access | create, 0600))
    return Error{"open of a store", errno};
  struct stat facts {};
  if (::fstat(disk->cached_.get(), &facts) != 0) return Error{"fstat of a store", errno};
  if (!S_ISREG(facts.st_mode)) return Error{"open of a store", EINVAL, {}, "not a regular file"};
  // Of the open file, not of the process: a second Store of the same process is refused as well.
  const Lock lock = writes ? Lock::exclusive : Lock::shared;
  if (use != FileUse::shared)
    if (const Outcome outcome = set_lock(disk->cached_.get(), lock, kWriterLock); failed(outcome))
      return outcome;
  if (writes)
    if (const Outcome outcome = disk->open_for_writing(path); failed(outcome)) return outcome;
  // RACE a compaction has given the name to another file since, or between two of the descriptors:
  // what is written to this one nobody would find again.
  for (const int descriptor : {disk->writer_.get(), disk->through_.get(), -1}) {
    struct stat other {};
    if (descriptor < 0 && !writes) break;
    if ((descriptor >= 0 ? ::fstat(descriptor, &other) : ::stat(path.c_str(), &other)) != 0 ||
        other.st_dev != facts.st_dev || other.st_ino != facts.st_ino)
      return Error{"open of a store", EBUSY, {}, "the file was replaced meanwhile: try again"};
  }
  std::error_code unknown;
  disk->shared_.path = std::filesystem::canonical(path, unknown).string();
  if (unknown) return Error{"path of a store", unknown.value()};
  return disk;
}

// RACE a child that was just made has not closed its copies yet: so the locks are given back, which
// counts for all copies, and not only this one closed.
FileDisk::~FileDisk() {
  if (cached_.valid() && ::getpid() == process_)
    static_cast<void>(set_lock(cached_.get(), Lock::none, {0, 0}));
}

std::string FileDisk::name_beside(const std::string& path) {
  static std::atomic<unsigned> count{0};
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return path + ".new-" + std::to_string(::getpid()) + "-" + std::to_string(now.tv_sec) + "-" +
         std::to_string(now.tv_nsec) + "-" + std::to_string(count.fetch_add(1));
}

Outcome FileDisk::open_for_writing(const std::string& path) {
  if (size() == 0)
    if (const Outcome outcome = extend_from(0, 2 * kDirectAlignment); failed(outcome))
      return outcome;
  const std::size_t unit =
      writer_.open(path.c_str(), O_RDWR | O_DIRECT) ? direct_unit(writer_.get()) : 0;
  direct_ = unit != 0;
  if (direct_) unit_ = unit;
  const int direct = direct_ ? O_DIRECT : 0;
  if ((!direct_ && !writer_.open(path.c_str(), O_RDWR)) ||
      !through_.open(path.c_str(), O_RDWR | O_DSYNC | direct))
    return {"open of a store", errno};
  return kDone;
}

Outcome FileDisk::read(std::span<std::byte> to, std::uint64_t offset) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const bool bulk = direct_ && to.size() >= kBulkRead && is_aligned(to.data(), to.size(), offset);
  const int descriptor = bulk ? writer_.get() : cached_.get();
  const int error = sys::pread_all(descriptor, to.data(), to.size(), offset);
  if (error == 0) return kDone;
  return {"read of a store", error, {}, "", static_cast<std::int64_t>(offset)};
}

Outcome FileDisk::write(std::span<const std::byte> from, std::uint64_t offset) noexcept {
  const int error = sys::pwrite_all(writer_.get(), from.data(), from.size(), offset);
  return error == 0 ? kDone : error_at("write of a store", error, offset);
}

Outcome FileDisk::write_durably(std::span<const std::byte> from, std::uint64_t offset) noexcept {
  const int error = sys::pwrite_all(through_.get(), from.data(), from.size(), offset);
  return error == 0 ? kDone : error_at("durable write of a store", error, offset);
}

Outcome FileDisk::sync() noexcept {
  // Not again after EINTR or anything else: what a failed one has forgotten, the next does not
  // tell.
  return ::fdatasync(writer_.get()) == 0 ? kDone : error_at("fdatasync of a store", errno, 0);
}

Outcome FileDisk::extend(std::uint64_t size) noexcept {
  const std::uint64_t now = this->size();
  return size <= now ? kDone : extend_from(now, size);
}

Outcome FileDisk::extend_from(std::uint64_t now, std::uint64_t size) noexcept {
  const auto from = static_cast<off_t>(now);
  const auto length = static_cast<off_t>(size - now);
  int error = 0;
  do {
    error = ::fallocate(cached_.get(), 0, from, length) == 0 ? 0 : errno;
  } while (error == EINTR);
  // A file system without it: the length at least. Then a checkpoint may be told that it is full.
  if (error == EOPNOTSUPP) error = ::ftruncate(cached_.get(), from + length) == 0 ? 0 : errno;
  // The file system may keep the new length to itself until it is asked.
  if (error == 0 && ::fdatasync(cached_.get()) != 0) error = errno;
  return error == 0 ? kDone : error_at("growing a store", error, now);
}

Outcome FileDisk::fill_holes() noexcept {
  const std::uint64_t now = size();
  int error = 0;
  do {
    error = ::fallocate(cached_.get(), 0, 0, static_cast<off_t>(now)) == 0 ? 0 : errno;
  } while (error == EINTR);
  return error == 0 ? kDone : error_at("filling the holes of a store", error, 0);
}

std::uint64_t FileDisk::size() const noexcept {
  struct stat facts {};
  return ::fstat(cached_.get(), &facts) == 0 ? static_cast<std::uint64_t>(facts.st_size) : 0;
}

Outcome publish(const std::string& from, const std::string& to) noexcept {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0)
    return {"rename of a new store", errno};
  return sync_directory_of(to);
}

Outcome sync_directory_of(const std::string& path) noexcept {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const sys::Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return {"open of a store's directory", errno};
  // EINVAL: the file system does not do that to directories, and need not.
  if (::fsync(directory.get()) != 0 && errno != EINVAL)
    return {"fsync of a store's directory", errno};
  return kDone;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
