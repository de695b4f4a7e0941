#include "store/format/superblock.hpp"

#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "store/format/checksum.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 47;
constexpr std::uint64_t kSumSeed = 0x53'5452'4150;  // arbitrary: the store's own is inside

struct alignas(kPageBytes) Slot {
  std::array<std::byte, kPageBytes> bytes{};
};

std::uint64_t sum_of(Slot slot) {
  std::memset(slot.bytes.data() + offsetof(Superblock, sum), 0, sizeof(std::uint64_t));
  return checksum(slot.bytes, kSumSeed);
}

std::optional<Superblock> decode(const Slot& slot) {
  Superblock block;
  std::memcpy(&block, slot.bytes.data(), sizeof block);
  if (block.magic != kSuperMagic || block.sum != sum_of(slot)) return std::nullopt;
  return block;
}

// The checksum agrees; that does not say that it was a store that wrote it.
const char* nonsense(const Superblock& block, std::uint64_t file_bytes) {
  const auto aligned = [](std::uint64_t value) {
    return value % kPageBytes == 0 && value < kMostBytes;
  };
  if (block.log_unit != 512 && block.log_unit != 4096) return "log unit";
  if ((block.flags & ~kCleanFlag) != 0) return "flags";
  if (!aligned(block.base) || block.base == 0 || !aligned(block.reserve_bytes) ||
      block.reserve_bytes == 0)
    return "address";
  if (block.staging_offset != kStagingOffset || !aligned(block.staging_bytes) ||
      block.staging_bytes < staging_bytes(2) ||
      block.staging_bytes > staging_bytes(kMostStagedPages))
    return "staging area";
  if (block.log_offset != kStagingOffset + block.staging_bytes || !aligned(block.log_bytes) ||
      block.log_bytes == 0)
    return "log";
  if (block.data_offset != block.log_offset + block.log_bytes) return "data";
  if (block.log_start < block.log_bytes / kSectorBytes ||
      block.log_start % (block.log_unit / kSectorBytes) != 0)
    return "start of the log";
  if (block.file_bytes < block.data_offset || block.file_bytes >= kMostBytes) return "length";
  if (block.file_bytes > file_bytes) return "truncated";
  return nullptr;
}

}  // namespace

Result<FoundSuperblock> read_superblock(Disk& disk) {
  std::optional<Superblock> newest;
  unsigned intact = 0;
  bool any_magic = false;
  for (const std::uint64_t offset : kSlotOffsets) {
    Slot slot;
    if (const Outcome outcome = disk.read(slot.bytes, offset); failed(outcome)) {
      if (outcome.number == EIO && disk.size() < kStagingOffset)
        return Error{"superblock of a store",
                     EBADMSG,
                     {},
                     "the file is too short for a store",
                     static_cast<std::int64_t>(disk.size())};
      return outcome;
    }
    std::uint64_t magic = 0;
    std::memcpy(&magic, slot.bytes.data(), sizeof magic);
    any_magic = any_magic || magic == kSuperMagic;
    const auto block = decode(slot);
    if (!block) continue;
    intact += 1;
    if (!newest || block->generation > newest->generation) newest = block;
  }
  if (!newest)
    return Error{"superblock of a store",
                 EBADMSG,
                 {},
                 any_magic ? "both copies are damaged" : "this is not a store",
                 0};
  if (newest->version < kOldestVersion || newest->version > kVersion)
    return Error{"superblock of a store", ENOTSUP, {}, "another version of the format", 0};
  if (newest->page_bytes != kPageBytes)
    return Error{"superblock of a store", ENOTSUP, {}, "made with pages of another size", 0};
  if (nonsense(*newest, disk.size()) != nullptr) {
    const bool shorter = newest->file_bytes > disk.size();
    return Error{"superblock of a store",
                 EBADMSG,
                 {},
                 shorter ? "the file has been cut short" : "its fields contradict each other",
                 shorter ? static_cast<std::int64_t>(disk.size()) : 0};
  }
  return FoundSuperblock{*newest, intact};
}

Outcome write_superblock(Disk& disk, const Superblock& block) {
  Slot slot;
  std::memcpy(slot.bytes.data(), &block, sizeof block);
  const std::uint64_t sum = sum_of(slot);
  std::memcpy(slot.bytes.data() + offsetof(Superblock, sum), &sum, sizeof sum);
  // If one is damaged already it goes first: the other may be the only one that is whole.
  auto offsets = kSlotOffsets;
  Slot second;
  if (const Outcome outcome = disk.read(second.bytes, offsets[1]); failed(outcome)) return outcome;
  if (!decode(second)) std::swap(offsets[0], offsets[1]);
  for (const std::uint64_t offset : offsets)
    if (const Outcome outcome = disk.write_durably(slot.bytes, offset); failed(outcome))
      return outcome;
  return kDone;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
