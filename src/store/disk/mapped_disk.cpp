#include "store/disk/mapped_disk.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "store/format/superblock.hpp"
#include "sys/cache_lines.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

Result<std::unique_ptr<MappedDisk>> MappedDisk::create(std::unique_ptr<FileDisk>& file,
                                                       std::uint64_t most, bool must_be_dax) {
  if (sys::cache_line_instruction() == nullptr)
    return Error{"cache lines of a store", ENOTSUP, {}, "this processor cannot write them back"};
  const int descriptor = file->shared()->descriptor.get();
  // ASSUMES MAP_SYNC is granted only where the file is such memory, and then every page that can be
  // written is where it will be found again (4.15).
  void* const page = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE,
                            MAP_SHARED_VALIDATE | MAP_SYNC, descriptor, 0);
  const bool is_dax = page != MAP_FAILED;
  if (is_dax) ::munmap(page, kPageBytes);
  if (must_be_dax && !is_dax)
    return Error{"cache lines of a store", ENOTSUP, {}, "the file system does not grant MAP_SYNC"};
  std::unique_ptr<MappedDisk> made(new MappedDisk);
  made->flags_ = is_dax ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED;
  // A write to a hole for which there is no room would be a SIGBUS.
  if (const Outcome outcome = file->fill_holes(); failed(outcome)) return outcome;
  sys::Mapping::Request request;
  request.size_bytes = most;
  request.prot = PROT_NONE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  auto addresses = sys::Mapping::create(request);
  if (!addresses) return addresses.error();
  made->addresses_ = std::move(*addresses);
  made->file_ = std::move(file);
  const Outcome outcome = made->map_to(made->file_->size());
  if (!failed(outcome)) return made;
  file = std::move(made->file_);
  return outcome;
}

// A child has no use for it.
Outcome MappedDisk::map_to(std::uint64_t size) noexcept {
  const std::lock_guard guard(growing_);
  const std::uint64_t end =
      std::min(size / kPageBytes * kPageBytes, std::uint64_t{addresses_.range().size_bytes()});
  if (end <= mapped_) return kDone;
  std::byte* const at = addresses_.data() + mapped_;
  const std::size_t length = end - mapped_;
  if (::mmap(at, length, PROT_READ | PROT_WRITE, flags_ | MAP_FIXED,
             file_->shared()->descriptor.get(), static_cast<off_t>(mapped_)) == MAP_FAILED ||
      ::madvise(at, length, MADV_DONTFORK) != 0)
    return {"mapping a store", errno, {}, "", static_cast<std::int64_t>(mapped_)};
  mapped_ = end;
  return kDone;
}

Outcome MappedDisk::read(std::span<std::byte> to, std::uint64_t offset) noexcept
    PAGETRAP_SIGNAL_SAFE {
  return file_->read(to, offset);
}

Outcome MappedDisk::write(std::span<const std::byte> from, std::uint64_t offset) noexcept {
  // Somebody may have cut the file short. RACE while this copies: then it is a SIGBUS after all.
  if (offset > file_->size() || from.size() > file_->size() - offset)
    return {"write of a store",
            EIO,
            {},
            "the file has been cut short",
            static_cast<std::int64_t>(offset)};
  if (offset + from.size() > addresses_.range().size_bytes())
    return {"write of a store", EFBIG, {}, "", static_cast<std::int64_t>(offset)};
  std::byte* const to = addresses_.data() + offset;
  std::memcpy(to, from.data(), from.size());
  sys::write_back_cache_lines(to, from.size());
  return kDone;
}

Outcome MappedDisk::extend(std::uint64_t size) noexcept {
  if (const Outcome outcome = file_->extend(size); failed(outcome)) return outcome;
  return map_to(size);
}

const char* MappedDisk::durable_by() const noexcept {
  return (flags_ & MAP_SYNC) != 0 ? sys::cache_line_instruction() : "cache lines of the page cache";
}

Result<std::unique_ptr<Disk>> with_persistence(std::unique_ptr<FileDisk> file,
                                               Persistence persistence) {
  if (persistence == Persistence::system_calls) return std::unique_ptr<Disk>(std::move(file));
  const auto found = read_superblock(*file);
  if (!found) return found.error();
  const Superblock& block = found->block;
  const std::uint64_t groups = block.reserve_bytes / kPageBytes / kGroupPages + 1;
  const bool automatic = persistence == Persistence::automatic;
  auto mapped = MappedDisk::create(file, offset_of_sums(block.data_offset, groups), automatic);
  if (mapped) return std::unique_ptr<Disk>(std::move(*mapped));
  // Whatever is missing: what every file can do is no worse for being slower.
  if (automatic) return std::unique_ptr<Disk>(std::move(file));
  return mapped.error();
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
