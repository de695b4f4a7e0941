// Slab: blobs of 1 byte to a page, packed into segments; one shard of a BlobStore.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <pagetrap/core/result.hpp>

#include "compress/lock.hpp"
#include "compress/pool/bins.hpp"
#include "compress/pool/budget.hpp"
#include "compress/pool/segment.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

struct SlabStatistics {
  std::size_t blobs = 0;        // in memory
  std::size_t blob_bytes = 0;   // of these
  std::size_t held_bytes = 0;   // segments and tables, as far as they were ever touched and not
                                // given back: what the budget was asked for
  std::size_t slid_bytes = 0;   // since creation
  std::size_t moved_blobs = 0;  // by compaction, since creation

  SlabStatistics& operator+=(const SlabStatistics& other) noexcept;
};

/// Threads  any; all calls with signals blocked (see Lock). A blob's id stays good until release().
/// put() makes it, and whoever got it orders release() and divert() after the end of his other
/// calls with it.
class Slab {
 public:
  static constexpr std::uint32_t kMaxBlobs = std::uint32_t{1} << 28;

  /// `capacity` bytes of addresses for blobs. `budget` outlives the slab.
  static Result<Slab> create(std::size_t capacity, Budget& budget);
  Slab(Slab&& other) noexcept;
  Slab& operator=(Slab&&) = delete;
  ~Slab();

  /// A blob of `head` and `body`, 1 byte to a page and a few: its id. ENOMEM: the budget or the
  /// capacity is used up.
  Result<std::uint32_t> put(std::span<const std::byte> head,
                            std::span<const std::byte> body) noexcept PAGETRAP_SIGNAL_SAFE;

  /// What get() found.
  struct Found {
    std::size_t length = 0;       // 0: `elsewhere`, or, if that is 0 too, no such blob
    std::uint32_t elsewhere = 0;  // where divert() said that it is now, + 1
  };
  /// Copies the blob to `out`, which must be long enough for any.
  Found get(std::uint32_t blob, std::span<std::byte> out) noexcept PAGETRAP_SIGNAL_SAFE;

  /// Ends the blob. If it was elsewhere, the caller has to end it there.
  Found release(std::uint32_t blob) noexcept PAGETRAP_SIGNAL_SAFE;

  /// The blob is `elsewhere` from now on, and its memory is free.
  void divert(std::uint32_t blob, std::uint32_t elsewhere) noexcept PAGETRAP_SIGNAL_SAFE;

  /// Moves at most `blobs` of them together, one for each time that the lock is taken. False when
  /// there is nothing more to gain.
  bool compact(unsigned blobs) noexcept PAGETRAP_SIGNAL_SAFE;

  [[nodiscard]] SlabStatistics statistics() noexcept PAGETRAP_SIGNAL_SAFE;

  Lock& lock() noexcept PAGETRAP_SIGNAL_SAFE { return lock_; }  // fork() holds it

  /// Where the blob is now, if it is in one piece. For tests, which damage it.
  [[nodiscard]] std::span<std::byte> look_at(std::uint32_t blob) const noexcept {
    return segment(where(blob)).find(blob);
  }

 private:
  Slab() = default;

  [[nodiscard]] Segment segment(std::uint32_t index) const noexcept PAGETRAP_SIGNAL_SAFE {
    return {segments_.data() + index * Segment::size_bytes(), states()[index]};
  }
  [[nodiscard]] SegmentState* states() const noexcept PAGETRAP_SIGNAL_SAFE {
    return reinterpret_cast<SegmentState*>(states_.data());
  }
  [[nodiscard]] std::uint32_t& where(std::uint32_t blob) const noexcept PAGETRAP_SIGNAL_SAFE {
    return reinterpret_cast<std::uint32_t*>(table_.data())[blob];
  }
  [[nodiscard]] Bins& bins() const noexcept PAGETRAP_SIGNAL_SAFE {
    return *reinterpret_cast<Bins*>(bins_.data());
  }

  /// Where a blob goes: segments that have been taken out of their bins.
  struct Place {
    std::uint32_t segment = Bins::kNone;
    std::uint32_t second = Bins::kNone;  // none: in one piece
    std::size_t first_length = 0;        // of the piece in `segment`, without its link
  };
  // A blob in two pieces: the first begins with the second's id.
  using Link = std::uint32_t;

  // All with the lock held.
  bool place(std::size_t length, Place& place) noexcept PAGETRAP_SIGNAL_SAFE;
  bool split(std::size_t length, bool may_grow, Place& place) noexcept PAGETRAP_SIGNAL_SAFE;
  void put_back(const Place& place) noexcept PAGETRAP_SIGNAL_SAFE;
  bool write(std::uint32_t blob, const Place& place, std::span<const std::byte> head,
             std::span<const std::byte> body) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] std::size_t slack() const noexcept PAGETRAP_SIGNAL_SAFE;
  void free_id(std::uint32_t blob) noexcept PAGETRAP_SIGNAL_SAFE;
  std::size_t remove_all(std::uint32_t blob) noexcept PAGETRAP_SIGNAL_SAFE;
  std::uint32_t fresh_segment() noexcept PAGETRAP_SIGNAL_SAFE;
  bool grow(std::size_t& touched, std::size_t needed) noexcept PAGETRAP_SIGNAL_SAFE;
  std::uint32_t fresh_id() noexcept PAGETRAP_SIGNAL_SAFE;
  std::size_t remove(std::uint32_t index, std::uint32_t blob) noexcept PAGETRAP_SIGNAL_SAFE;
  void retire(std::uint32_t index) noexcept PAGETRAP_SIGNAL_SAFE;
  bool choose_victim() noexcept PAGETRAP_SIGNAL_SAFE;
  bool move_one() noexcept PAGETRAP_SIGNAL_SAFE;
  bool move(Segment::Entry moved) noexcept PAGETRAP_SIGNAL_SAFE;
  bool step() noexcept PAGETRAP_SIGNAL_SAFE;

  Lock lock_;
  Budget* budget_ = nullptr;
  sys::Mapping segments_;  // the blobs
  sys::Mapping states_;    // of the segments
  sys::Mapping table_;     // of ids: where each is
  sys::Mapping bins_;
  std::uint32_t capacity_ = 0;  // in segments
  std::uint32_t max_blobs_ = 0;
  std::uint32_t ever_segments_ = 0;  // the first so many have been used at some time
  std::uint32_t ever_blobs_ = 0;
  std::uint32_t free_segments_ = 0;  // a list: index + 1
  std::uint32_t free_ids_ = 0;       // a list: id + 1
  std::uint32_t spares_ = 0;         // a list of empty ones that have their memory: index + 1
  std::uint32_t spare_count_ = 0;
  std::uint32_t victim_ = Bins::kNone;  // one that is being emptied: in no bin
  std::uint32_t in_use_ = 0;            // segments with blobs
  std::size_t filled_ = 0;              // bytes of these: pieces and their entries
  std::size_t states_touched_ = 0;
  std::size_t table_touched_ = 0;
  SlabStatistics statistics_;
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
