// SpillFile: blobs in a file, as much as a limit allows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <pagetrap/core/result.hpp>

#include "compress/lock.hpp"
#include "compress/pool/budget.hpp"
#include "sys/fd.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

/// The file is divided into chunks, each for slots of one length. It has no format: what is in it
/// is known to this object alone.
///
/// Threads  any, with signals blocked (see Lock); no lock is held while the file is read or
/// written.
class SpillFile {
 public:
  static constexpr std::size_t kChunk = 64 * 1024;
  static constexpr std::uint32_t kMaxSlots = std::uint32_t{1} << 30;

  /// `file` is written from its start. `limit` bytes of it at most. The memory for the table counts
  /// in `budget`.
  static Result<SpillFile> create(sys::Descriptor file, std::uint64_t limit, Budget& budget);
  SpillFile(SpillFile&& other) noexcept;
  SpillFile& operator=(SpillFile&&) = delete;
  ~SpillFile();

  /// A slot that has `blob` now. Errors  ENOSPC: the limit, or the disk; those of pwrite(2).
  Result<std::uint32_t> write(std::span<const std::byte> blob) noexcept PAGETRAP_SIGNAL_SAFE;
  /// The slot's blob, at the front of `out`: how long it is.
  Result<std::size_t> read(std::uint32_t slot, std::span<std::byte> out) noexcept
      PAGETRAP_SIGNAL_SAFE;
  void release(std::uint32_t slot) noexcept PAGETRAP_SIGNAL_SAFE;

  /// In chunks that are in use.
  [[nodiscard]] std::uint64_t file_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
    return in_use_.load(std::memory_order_relaxed) * kChunk;
  }
  Lock& lock() noexcept PAGETRAP_SIGNAL_SAFE { return lock_; }  // fork() holds it

 private:
  static constexpr std::size_t kStep = 256;
  static constexpr std::uint32_t kSlots = kChunk / kStep;  // at most
  static constexpr std::size_t kClasses = 17 * 1024 / kStep;

  struct Chunk {
    std::uint32_t next;      // of the same class, or free: index + 1
    std::uint32_t previous;  // of the same class
    std::uint16_t steps;     // the length of a slot
    std::uint16_t used;      // slots
    std::array<std::uint64_t, kSlots / 64> taken;
    std::array<std::uint16_t, kSlots> lengths;
  };

  SpillFile() = default;
  [[nodiscard]] Chunk& chunk(std::uint32_t index) const noexcept PAGETRAP_SIGNAL_SAFE {
    return reinterpret_cast<Chunk*>(chunks_.data())[index];
  }
  static std::uint64_t offset_of(std::uint32_t slot, const Chunk& chunk) noexcept
      PAGETRAP_SIGNAL_SAFE {
    return slot / kSlots * std::uint64_t{kChunk} + slot % kSlots * std::size_t{chunk.steps} * kStep;
  }
  bool take_slot(std::size_t length, std::uint32_t& slot) noexcept PAGETRAP_SIGNAL_SAFE;
  bool fresh_chunk(std::size_t steps) noexcept PAGETRAP_SIGNAL_SAFE;
  void link(std::uint32_t index) noexcept PAGETRAP_SIGNAL_SAFE;
  void unlink(std::uint32_t index) noexcept PAGETRAP_SIGNAL_SAFE;

  Lock lock_;
  Budget* budget_ = nullptr;
  sys::Descriptor file_;
  sys::Mapping chunks_;
  std::uint32_t capacity_ = 0;  // in chunks
  std::uint32_t ever_ = 0;      // the first so many have been used at some time
  std::size_t table_touched_ = 0;
  std::uint32_t free_ = 0;  // a list: index + 1
  std::atomic<std::uint64_t> in_use_{0};
  std::array<std::uint32_t, kClasses> with_room_{};  // lists: index + 1
};

/// A file without a name in `directory`, gone with its descriptor.
Result<sys::Descriptor> unnamed_file(const char* directory);

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
