#include "compress/pool/spill_file.hpp"

#include <fcntl.h>
#include <stdlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <string>
#include <utility>

#include "compress/own_memory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

Result<sys::Descriptor> unnamed_file(const char* directory) {
  sys::Descriptor file(::open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file.valid()) return file;
  // EOPNOTSUPP, EISDIR: this file system, or its kernel, has no unnamed files.
  if (errno != EOPNOTSUPP && errno != EISDIR)
    return Error{"open of an unnamed file to spill to", errno};
  std::string name = std::string(directory) + "/.pagetrap-spill-XXXXXX";
  file = sys::Descriptor(::mkostemp(name.data(), O_CLOEXEC));
  if (!file.valid()) return Error{"mkostemp of a file to spill to", errno};
  if (::unlink(name.c_str()) != 0) return Error{"unlink of the file to spill to", errno};
  return file;
}

Result<SpillFile> SpillFile::create(sys::Descriptor file, std::uint64_t limit, Budget& budget) {
  SpillFile spill;
  const std::uint64_t chunks = std::min<std::uint64_t>(limit / kChunk, kMaxSlots / kSlots);
  if (page_size() + kStep > (kClasses - 1) * kStep)
    return Error{"SpillFile::create", ENOTSUP, {}, "pages as large as here are not spilled"};
  if (chunks == 0)
    return Error{"SpillFile::create", EINVAL, {}, "let the file have 64 KiB at least"};
  auto table = own_memory(chunks * sizeof(Chunk), "pagetrap spilled blobs");
  if (!table) return table.error();
  spill.budget_ = &budget;
  spill.file_ = std::move(file);
  spill.chunks_ = std::move(*table);
  spill.capacity_ = static_cast<std::uint32_t>(chunks);
  return spill;
}

// Before it is used by anybody.
SpillFile::SpillFile(SpillFile&& other) noexcept
    : budget_(std::exchange(other.budget_, nullptr)),
      file_(std::move(other.file_)),
      chunks_(std::move(other.chunks_)),
      capacity_(other.capacity_) {}

SpillFile::~SpillFile() {
  if (budget_ != nullptr) budget_->give_back(table_touched_);
}

Result<std::uint32_t> SpillFile::write(std::span<const std::byte> blob) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::uint32_t slot = 0;
  if (blob.empty() || blob.size() > (kClasses - 1) * kStep) return Error{"spilling a blob", EINVAL};
  if (!take_slot(blob.size(), slot)) {
    return Error{"spilling a blob", ENOSPC, {}, "allow a larger file"};
  }
  const std::uint64_t offset = offset_of(slot, chunk(slot / kSlots));
  if (const int error = sys::pwrite_all(file_.get(), blob.data(), blob.size(), offset)) {
    release(slot);
    return Error{"pwrite of a spilled blob", error, {}, "", static_cast<std::int64_t>(offset)};
  }
  return slot;
}

Result<std::size_t> SpillFile::read(std::uint32_t slot, std::span<std::byte> out) noexcept
    PAGETRAP_SIGNAL_SAFE {
  // Nobody changes a slot's length or its chunk's while the slot is taken.
  const Chunk& in = chunk(slot / kSlots);
  const std::size_t length = in.lengths[slot % kSlots];
  if (length > out.size()) return Error{"reading a spilled blob", EINVAL};
  const std::uint64_t offset = offset_of(slot, in);
  if (const int error = sys::pread_all(file_.get(), out.data(), length, offset))
    return Error{"pread of a spilled blob", error, {}, "", static_cast<std::int64_t>(offset)};
  return length;
}

bool SpillFile::take_slot(std::size_t length, std::uint32_t& slot) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t steps = (length + kStep - 1) / kStep;
  const Held held(lock_);
  if (with_room_[steps] == 0 && !fresh_chunk(steps)) return false;
  const std::uint32_t index = with_room_[steps] - 1;
  Chunk& in = chunk(index);
  const std::size_t slots = kChunk / (steps * kStep);
  for (std::uint32_t i = 0; i < slots; ++i) {
    const std::uint64_t bit = std::uint64_t{1} << i % 64;
    if ((in.taken[i / 64] & bit) != 0) continue;
    in.taken[i / 64] |= bit;
    in.lengths[i] = static_cast<std::uint16_t>(length);
    if (++in.used == slots) unlink(index);
    slot = index * static_cast<std::uint32_t>(kSlots) + i;
    return true;
  }
  return false;  // not reached: a chunk in the list has room
}

void SpillFile::release(std::uint32_t slot) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto index = slot / static_cast<std::uint32_t>(kSlots);
  const std::size_t i = slot % kSlots;
  const Held held(lock_);
  Chunk& in = chunk(index);
  if (in.used == kChunk / (in.steps * kStep)) link(index);
  in.taken[i / 64] &= ~(std::uint64_t{1} << i % 64);
  if (--in.used > 0) return;
  unlink(index);
  // Where holes cannot be punched the space stays the file's, and is used again all the same.
  static_cast<void>(sys::punch_hole(file_.get(), index * std::uint64_t{kChunk}, kChunk));
  in.next = free_;
  free_ = index + 1;
  in_use_.fetch_sub(1, std::memory_order_relaxed);
}

/// A chunk for slots of `steps`, first in its list.
bool SpillFile::fresh_chunk(std::size_t steps) noexcept PAGETRAP_SIGNAL_SAFE {
  std::uint32_t index = 0;
  if (free_ != 0) {
    index = free_ - 1;
    free_ = chunk(index).next;
  } else {
    if (ever_ == capacity_) return false;
    const std::size_t table = bytes(pages_for((ever_ + std::size_t{1}) * sizeof(Chunk)));
    if (table > table_touched_) {
      if (!budget_->take(table - table_touched_)) return false;
      table_touched_ = table;
    }
    index = ever_++;
  }
  chunk(index).steps = static_cast<std::uint16_t>(steps);
  chunk(index).used = 0;
  chunk(index).taken = {};
  link(index);
  in_use_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void SpillFile::link(std::uint32_t index) noexcept PAGETRAP_SIGNAL_SAFE {
  Chunk& linked = chunk(index);
  std::uint32_t& first = with_room_[linked.steps];
  linked.previous = 0;
  linked.next = first;
  if (first != 0) chunk(first - 1).previous = index + 1;
  first = index + 1;
}

void SpillFile::unlink(std::uint32_t index) noexcept PAGETRAP_SIGNAL_SAFE {
  const Chunk& unlinked = chunk(index);
  if (unlinked.next != 0) chunk(unlinked.next - 1).previous = unlinked.previous;
  if (unlinked.previous != 0) {
    chunk(unlinked.previous - 1).next = unlinked.next;
  } else {
    with_room_[unlinked.steps] = unlinked.next;
  }
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
