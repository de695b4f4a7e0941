// Log: where a commit becomes durable. Records are appended in memory by one writer after the
// other; whoever needs his to be durable first becomes the leader and writes all there are, in one
// write and one flush, for those who wait as well.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <span>

#include "store/disk/disk.hpp"
#include "store/format/layout.hpp"
#include "store/memory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

struct LogStatistics {
  std::uint64_t flushes = 0;
  std::uint64_t bytes = 0;    // written
  std::uint64_t records = 0;  // appended
};

class Log {
 public:
  struct Shape {
    std::uint64_t offset = 0;  // in the file
    std::uint64_t bytes = 0;
    std::size_t unit = kSectorBytes;
    std::uint64_t seed = 0;
  };
  /// Room for two batches.
  static Result<std::unique_ptr<Log>> create(Disk& disk, const Shape& shape);

  /// After recovery: the next record is sector `next`, what is needed begins at `start`.
  void begin(std::uint64_t start, std::uint64_t next, std::uint32_t epoch) noexcept;

  [[nodiscard]] bool fits_at_all(std::size_t payload_bytes) const noexcept;
  [[nodiscard]] bool has_room(std::size_t payload_bytes) const noexcept;
  /// Precondition: has_room(). Calls exclude each other. Returns the record's end.
  std::uint64_t append(std::span<const std::byte> payload, std::uint64_t commit) noexcept;
  /// Returns when everything before `end` is durable, or an error, which is for ever: what a failed
  /// write left on the medium is not known, so nothing may be written after it.
  Outcome wait_durable(std::uint64_t end) noexcept;
  /// Gives what there is to the file if it is more than `bytes`, without a flush.
  Outcome write_behind(std::size_t bytes) noexcept;

  /// Sectors before `start` are needed no more.
  void release(std::uint64_t start) noexcept;
  [[nodiscard]] std::uint64_t start() const noexcept;
  [[nodiscard]] std::uint64_t appended() const noexcept;
  [[nodiscard]] std::uint64_t durable() const noexcept;
  [[nodiscard]] std::uint64_t sectors() const noexcept { return sectors_; }
  [[nodiscard]] bool is_half_full() const noexcept;
  [[nodiscard]] Outcome failure() const noexcept;
  [[nodiscard]] LogStatistics statistics() const noexcept;

 private:
  struct Batch {
    SparseArray<std::byte> bytes;
    std::uint64_t first = 0;  // sector number
    std::uint64_t count = 0;  // sectors
  };
  Log(Disk& disk, const Shape& shape) noexcept
      : disk_(disk), shape_(shape), sectors_(shape.bytes / kSectorBytes) {}
  Outcome lead(std::unique_lock<std::mutex>& guard, bool durably) noexcept;
  Outcome write(const Batch& batch, bool durably) noexcept;

  Disk& disk_;
  const Shape shape_;
  const std::uint64_t sectors_;
  mutable std::mutex lock_;
  std::condition_variable changed_;
  // GUARDED_BY(lock_), all below
  Batch filling_;
  Batch writing_;
  bool leading_ = false;
  bool unsynced_ = false;  // something was written behind
  std::uint64_t start_ = 0;
  std::uint64_t appended_ = 0;
  std::uint64_t durable_ = 0;
  std::uint32_t epoch_ = 0;
  Outcome failure_{};
  LogStatistics statistics_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
