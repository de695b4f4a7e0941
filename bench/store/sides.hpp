// Two stores of the same records, each in a process of its own, changed or read in turns.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "harness/peer.hpp"
#include "harness/question.hpp"
#include "harness/report.hpp"
#include "rivals/record_store.hpp"

namespace pagetrap::bench {

inline constexpr std::size_t kRecordBytes = 128;  // with key and whatever else: 8 M to a GiB

/// A folder on the disk (not in /tmp, if that is memory), removed at the end.
class StoreFolder {
 public:
  /// Skips the question if `bytes` do not fit.
  StoreFolder(Report& report, double bytes);
  ~StoreFolder();
  StoreFolder(const StoreFolder&) = delete;
  StoreFolder& operator=(const StoreFolder&) = delete;
  /// An empty folder in it.
  [[nodiscard]] std::string make(const char* name) const;

 private:
  std::string path_;
};

/// xorshift: the same keys on both sides.
class Keys {
 public:
  explicit Keys(std::uint64_t count) : count_(count) {}
  std::uint64_t next() noexcept {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % count_;
  }

 private:
  std::uint64_t count_;
  std::uint64_t state_ = 0x1991'0408'2017'0101;
};

/// What one side does, made in its own process: a batch, whose cost of one operation it returns.
using MakeSide = std::function<Peer::Batch()>;

/// Both in turns, as long as the effort lasts; keys of a side whose library is missing skip.
void measure_sides(const Effort& effort, Report& report, const MakeSide& ours,
                   const MakeSide& rival);

/// What `work` tells, from a process of its own, which ends there: nothing is closed.
using Tell = std::function<void(double)>;
double told_apart(Report& report, const std::function<void(const Tell&)>& work);

/// `open` or a skip that names the package.
void require_installed(Report& report, const OpenRecordStore& open);

/// Batches of transactions, each changing four random records.
MakeSide transactions(const OpenRecordStore& open, RecordStoreOptions options, int in_a_batch);
/// Batches of random reads.
MakeSide reads(const OpenRecordStore& open, RecordStoreOptions options, int in_a_batch);
/// The least that makes 512 bytes durable: one of them over another, in a file that is written
/// already, O_DIRECT | O_DSYNC.
MakeSide floor(const std::string& directory, int in_a_batch);

}  // namespace pagetrap::bench
