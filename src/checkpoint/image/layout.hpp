// The records of an image file, byte for byte. docs/formats/checkpoint.md explains them; change
// both or none, and raise kVersion.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace layout {

static_assert(std::endian::native == std::endian::little, "records are copied as they are");

inline constexpr std::uint64_t kHeaderMagic = 0x0a676d4970617254;  // "TrapImg\n"
inline constexpr std::uint64_t kIndexMagic = 0x0a78646e49676d49;   // "ImgIndx\n"
inline constexpr std::uint64_t kFooterMagic = 0x0a646e4570617254;  // "TrapEnd\n"
inline constexpr std::uint32_t kVersion = 1;

// Limits of the format: what a reader may be asked to believe.
inline constexpr std::uint32_t kGranule = 4096;  // headers are whole granules, pages at least one
inline constexpr std::uint32_t kMinPageSize = 4096;
inline constexpr std::uint32_t kMaxPageSize = 65536;
inline constexpr std::uint32_t kMaxRegions = 65536;
inline constexpr std::uint32_t kMaxNameBytes = 255;
inline constexpr std::uint32_t kMaxBlockPages = 512;
inline constexpr std::uint64_t kMaxAddress = std::uint64_t{1} << 57;  // of any x86-64
inline constexpr std::uint32_t kMaxHeaderBytes = 32u << 20;           // all regions, longest names

inline constexpr std::uint32_t kZeroBlock = 0xffffffff;  // a run's block: its pages are zero

using Id = std::array<std::uint8_t, 16>;

struct Header {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t page_size;
  std::uint32_t header_bytes;
  std::uint32_t compression;
  Id id;
  Id parent_id;
  std::int64_t created_ns;
  std::uint64_t generation;
  std::uint32_t region_count;
  std::uint32_t flags;
  std::uint64_t checksum;  // of all header_bytes, this field taken as zero
};
static_assert(sizeof(Header) == 88);

/// Followed by the name, padded with zeroes to a multiple of eight.
struct Region {
  std::uint64_t base;
  std::uint64_t size_bytes;
  std::uint64_t root;
  std::uint32_t name_length;
  std::uint32_t reserved;
};
static_assert(sizeof(Region) == 32);

struct IndexHead {
  std::uint64_t magic;
  std::uint64_t block_count;
  std::uint64_t run_count;
};
static_assert(sizeof(IndexHead) == 24);

enum class Encoding : std::uint32_t { raw, lz4, zstd };  // numbered as Compression

struct Block {
  std::uint64_t offset;
  std::uint32_t stored_bytes;
  std::uint32_t pages;
  std::uint32_t encoding;
  std::uint32_t reserved;
  std::uint64_t checksum;  // of the stored bytes
};
static_assert(sizeof(Block) == 32);

struct Run {
  std::uint32_t region;
  std::uint32_t pages;
  std::uint64_t first_page;
  std::uint32_t block;
  std::uint32_t page_in_block;
};
static_assert(sizeof(Run) == 24);

struct Footer {
  std::uint64_t magic;
  std::uint64_t index_offset;
  std::uint64_t index_bytes;
  std::uint64_t index_checksum;
  std::uint64_t file_bytes;
  Id id;
  std::uint64_t checksum;  // of the fields before it
};
static_assert(sizeof(Footer) == 64);

/// Checksums of blocks are seeded with the image's id, so that a block is good only in its image.
inline std::uint64_t seed(const Id& id) noexcept {
  std::uint64_t value = 0;
  std::memcpy(&value, id.data(), sizeof value);
  return value;
}

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t granule) noexcept {
  return (value + granule - 1) / granule * granule;
}

constexpr bool page_size_is_possible(std::uint64_t size) noexcept {
  return std::has_single_bit(size) && size >= kMinPageSize && size <= kMaxPageSize;
}

/// The record at `offset`. Precondition: it lies inside `bytes`.
template <class Record>
Record record_at(std::span<const std::byte> bytes, std::size_t offset) noexcept {
  static_assert(std::is_trivially_copyable_v<Record>);
  Record record;
  std::memcpy(&record, bytes.data() + offset, sizeof record);
  return record;
}

template <class Record>
void put_record(std::span<std::byte> bytes, std::size_t offset, const Record& record) noexcept {
  static_assert(std::is_trivially_copyable_v<Record>);
  std::memcpy(bytes.data() + offset, &record, sizeof record);
}

template <class Record>
std::span<const std::byte> bytes_of(const Record& record) noexcept {
  return std::as_bytes(std::span<const Record, 1>(&record, 1));
}

}  // namespace layout
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
