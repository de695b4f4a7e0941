#include "guard/alias/frames.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <new>

#include <pagetrap/core/units.hpp>

#include "sys/kernel_abi.hpp"
#include "sys/memory_calls.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

constexpr std::size_t kMostExtents = std::size_t{1} << 16;  // 128 GiB of memory
constexpr std::size_t kExtentBytes = kExtentPages * 4096;
constexpr std::size_t kStride = (sizeof(Extent) + 63) & ~std::size_t{63};
constexpr int kLowestDescriptor = 900;
constexpr std::uint32_t kFewestPages = 96;  // each view takes two pages of tables, too
constexpr std::uint32_t kRoomAgain = 4;     // a quarter of a full extent is unused again

int make_file() noexcept {
  const int made = ::memfd_create("pagetrap-guard", MFD_CLOEXEC);
  if (made < 0) return -1;
  const int high = ::fcntl(made, F_DUPFD_CLOEXEC, kLowestDescriptor);
  if (high < 0) return made;
  ::close(made);
  return high;
}

}  // namespace

std::uint32_t Extent::capacity() const noexcept {
  return static_cast<std::uint32_t>(page_size() / unit_bytes(unit) * pages);
}

Result<Done> SharedFrames::begin() noexcept {
  file_ = make_file();
  if (file_ < 0) return Error{"memfd_create", errno};
  if (::ftruncate(file_, static_cast<off_t>(kMostExtents * kExtentBytes)) != 0)
    return Error{"ftruncate", errno};
  void* const memory = sys::plain_mmap(nullptr, kMostExtents * kStride, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return Error{"mmap", errno};
  extents_ = static_cast<std::byte*>(memory);
  return Done{};
}

void SharedFrames::end() noexcept {
  if (file_ >= 0) ::close(file_);
  if (extents_ != nullptr) static_cast<void>(sys::plain_munmap(extents_, kMostExtents * kStride));
}

Extent* SharedFrames::new_extent(unsigned unit) noexcept {
  const std::size_t number = extents_made_.fetch_add(1, std::memory_order_relaxed);
  if (number >= kMostExtents) {
    extents_made_.fetch_sub(1, std::memory_order_relaxed);
    return nullptr;
  }
  auto* const extent = new (extents_ + number * kStride) Extent();
  extent->unit = unit;
  // As many pages as the unit has so far: a block of a new extent's first view takes a frame.
  const std::uint32_t made = pages_made_[unit].load(std::memory_order_relaxed);
  extent->pages =
      std::clamp(std::bit_floor(made), kFewestPages, static_cast<std::uint32_t>(kExtentPages));
  pages_made_[unit].fetch_add(extent->pages, std::memory_order_relaxed);
  extent->file_offset = number * kExtentBytes;
  extent->unused.store(extent->capacity());
  const std::size_t in_page = page_size() / unit_bytes(unit);
  for (std::size_t page = 0; page < extent->pages; ++page)
    for (std::size_t word = 0; word * 64 < in_page; ++word) {
      const std::size_t left = in_page - word * 64;
      extent->bits[page][word].store(
          left >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1,
          std::memory_order_relaxed);
    }
  return extent;
}

void SharedFrames::list_again(Extent& extent) noexcept {
  if (extent.listed.load(std::memory_order_seq_cst) ||
      extent.unused.load(std::memory_order_seq_cst) <= extent.capacity() / kRoomAgain ||
      extent.listed.exchange(true, std::memory_order_seq_cst))
    return;
  leave(extent);
}

void SharedFrames::leave(Extent& extent) noexcept {
  std::atomic<Extent*>& list = returned_[extent.unit];
  extent.next = list.load(std::memory_order_relaxed);
  while (!list.compare_exchange_weak(extent.next, &extent, std::memory_order_release)) {
  }
}

void SharedFrames::give_back(Extent& extent, std::size_t page, unsigned block) noexcept {
  if (extent.put(page, block) > extent.capacity() / kRoomAgain) list_again(extent);
}

void SharedFrames::unlist(Extent& extent) noexcept {
  extent.next = nullptr;
  // RACE room that came before this store was not seen by whoever gave it back.
  extent.listed.store(false, std::memory_order_seq_cst);
  list_again(extent);
}

Extent* SharedFrames::take_returned(unsigned unit) noexcept {
  if (returned_[unit].load(std::memory_order_relaxed) == nullptr) return nullptr;
  return returned_[unit].exchange(nullptr, std::memory_order_acquire);
}

bool SharedFrames::map(const Extent& extent, std::byte* where) noexcept {
  // Where all pages are there, one call spares a fault for each; else they come as they are used,
  // and rare units stay small.
  const bool at_once = extent.used_up != 0 && !extent.is_huge;
  const int flags = MAP_SHARED | MAP_FIXED | (at_once ? MAP_POPULATE : 0);
  return sys::plain_mmap(where, bytes(Pages{extent.pages}), PROT_READ | PROT_WRITE, flags, file_,
                         static_cast<off_t>(extent.file_offset)) != MAP_FAILED;
}

void SharedFrames::collapse(Extent& extent, std::byte* view) noexcept {
  // Refused: no memory in one piece. It is tried again after as many views.
  extent.is_huge = sys::advise({view, Pages{kExtentPages}}, MADV_COLLAPSE) == 0;
}

void SharedFrames::copy_for_child() noexcept {
  copy_ = make_file();
  if (copy_ < 0) return;
  bool whole = ::ftruncate(copy_, static_cast<off_t>(kMostExtents * kExtentBytes)) == 0;
  off_t at = 0;
  // Only what is there; holes stay holes.
  while (whole && (at = ::lseek(file_, at, SEEK_DATA)) >= 0) {
    const off_t end = ::lseek(file_, at, SEEK_HOLE);
    whole = end > at && ::lseek(copy_, at, SEEK_SET) == at;
    while (whole && at < end) {
      const ssize_t done = ::sendfile(copy_, file_, &at, static_cast<std::size_t>(end - at));
      whole = done > 0;
    }
  }
  if (!whole) forget_copy();
}

void SharedFrames::forget_copy() noexcept {
  if (copy_ >= 0) ::close(copy_);
  copy_ = -1;
}

bool SharedFrames::take_copy() noexcept {
  if (copy_ < 0) return false;
  ::close(file_);
  file_ = copy_;
  copy_ = -1;
  return true;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
