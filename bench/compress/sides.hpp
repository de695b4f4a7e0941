// The two sides of the rows against zram: the same array in as many bytes, everything counted.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>

#include <pagetrap/compress/compressed_source.hpp>
#include <pagetrap/pager/pager.hpp>

#include "compress/records.hpp"
#include "harness/peer.hpp"
#include "harness/question.hpp"
#include "rivals/memory_group.hpp"
#include "rivals/zram_swap.hpp"

namespace pagetrap::bench {

/// A region of compressed memory. `budget_bytes` for everything; `limit_bytes`: of it for pages in
/// memory, 0: what the compressed ones leave.
class CompressedSide {
 public:
  CompressedSide(Report& report, std::size_t size_bytes, std::size_t budget_bytes,
                 std::size_t limit_bytes);
  [[nodiscard]] std::byte* data() const { return region_->data(); }
  [[nodiscard]] compress::CompressedSource& source() const { return *source_; }
  [[nodiscard]] pager::Region& region() { return *region_; }
  /// Runs `some` until the store has learnt, or for long enough.
  void warm_up(const std::function<void()>& some) const;
  void describe(Report& report, std::size_t size_bytes) const;

 private:
  std::unique_ptr<compress::CompressedSource> source_;
  std::unique_ptr<pager::Pager> pager_;
  std::optional<pager::Region> region_;
};

/// A process in a memory control group, with zram to swap to.
class ZramSide {
 public:
  /// In the process: builds what it will measure, and returns how. The limit comes after that.
  using Make = std::function<Peer::Batch()>;
  /// Skips the question where there is no zram. `share` of `size_bytes` may be in memory.
  ZramSide(Report& report, std::size_t size_bytes, double share, const Make& make);
  /// Its memory: the limit, and the pool.
  [[nodiscard]] std::size_t total_bytes() const { return limit_ + swap_.pool_bytes(); }
  /// False: the kernel has killed it.
  bool measure(double& cost);

 private:
  std::size_t limit_;
  rivals::ZramSwap swap_;
  rivals::MemoryGroup group_;
  std::optional<Peer> peer_;
};

/// Why a row is skipped whose rival has not lived.
inline constexpr const char* kKilled =
    "the kernel killed the rival: out of memory in its group, with swap free";

/// Pairs until the time is over, or the rival is killed (it is false then): that ends the row, or
/// skips it if there is no pair yet.
void interleave_with_mortal(const Effort& effort, Report& report,
                            const std::function<double()>& ours,
                            const std::function<bool(double& cost)>& rival);
void interleave_with_zram(const Effort& effort, Report& report, const std::function<double()>& ours,
                          ZramSide& rival);

/// What the pager keeps beside its budget: a word and a record for each page of the array, a frame
/// for each that is in memory, at most `total_bytes` of them.
inline std::size_t bookkeeping_bytes(std::size_t array_bytes, std::size_t total_bytes) {
  return array_bytes / page_size() * (9 + 16) +
         std::min(array_bytes, total_bytes) / page_size() * 48;
}

}  // namespace pagetrap::bench
