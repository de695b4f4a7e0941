// BlobStore: blobs in memory, and in a file if there is one; shards of Slab beneath one budget.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <pagetrap/core/result.hpp>

#include "compress/pool/budget.hpp"
#include "compress/pool/slab.hpp"
#include "compress/pool/spill_file.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

/// A blob's handle. It stays good, wherever the blob is, until release().
using BlobId = std::uint32_t;

/// Threads  any; all calls with signals blocked (see Lock). The owner of a blob orders its
///          release() and spill() after the end of other calls with it.
class BlobStore {
 public:
  static constexpr unsigned kMaxShards = 8;

  /// `capacity` bytes of addresses: what the budget may ever be.
  explicit BlobStore(Budget& budget) noexcept : budget_(&budget) {}
  Result<Done> open(std::size_t capacity, unsigned shards);
  Result<Done> open_spill(sys::Descriptor file, std::uint64_t limit);
  BlobStore(const BlobStore&) = delete;
  BlobStore& operator=(const BlobStore&) = delete;

  /// ENOMEM: there is no room, however the blobs are packed.
  Result<BlobId> put(std::span<const std::byte> head, std::span<const std::byte> body) noexcept
      PAGETRAP_SIGNAL_SAFE;
  /// The blob, at the front of `out`: how long it is. ENOENT: there is no such blob.
  Result<std::size_t> get(BlobId blob, std::span<std::byte> out) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Whether it was spilled.
  Result<bool> release(BlobId blob) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Moves the blob to the file; `scratch` is long enough for any. After an error it is where it
  /// was. EALREADY: there.
  Result<Done> spill(BlobId blob, std::span<std::byte> scratch) noexcept PAGETRAP_SIGNAL_SAFE;

  /// False when there is nothing more to gain.
  bool compact(unsigned blobs) noexcept PAGETRAP_SIGNAL_SAFE;

  [[nodiscard]] SlabStatistics statistics() noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] std::uint64_t file_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
    return spill_ ? spill_->file_bytes() : 0;
  }

  /// Across fork(): nobody is half-way through a call.
  void lock_all() noexcept PAGETRAP_SIGNAL_SAFE;
  void unlock_all() noexcept PAGETRAP_SIGNAL_SAFE;

  [[nodiscard]] std::span<std::byte> look_at(BlobId blob) noexcept {
    return shard_of(blob).look_at(blob / shard_count_);
  }

 private:
  [[nodiscard]] Slab& shard_of(BlobId blob) noexcept PAGETRAP_SIGNAL_SAFE {
    return *shards_[blob % shard_count_];
  }

  Budget* budget_;
  std::array<std::optional<Slab>, kMaxShards> shards_;
  unsigned shard_count_ = 0;
  std::atomic<std::uint32_t> next_shard_{0};
  std::optional<SpillFile> spill_;
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
