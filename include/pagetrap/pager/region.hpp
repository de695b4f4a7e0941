// pager::Region: a range of addresses whose pages come from a Source when they are touched, and go
// when the budget says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/pager/policy.hpp>
#include <pagetrap/pager/source.hpp>
#include <pagetrap/vm/region.hpp>

namespace pagetrap {
inline namespace v0 {
namespace pager {

class Pager;
class Pin;
class PagedRegion;  // src/pager/paged_region.hpp

/// What to do about a page that its source could not fill.
enum class OnError : std::uint8_t {
  poison,  // this access and later ones raise the signal they would raise without the pager
  retry,   // ask the source again
  zeroes,  // the page is zeroes
};

/// A source's failure, as the region's owner is told of it.
struct SourceFailure {
  const char* region = "";  // its name
  std::uint64_t page = 0;   // index
  bool writing = false;     // write_back: the page stays in memory, the answer is ignored
  unsigned attempt = 0;     // 1, 2, ...
  Error error{};
};

/// Called where the source was called: in a signal handler, or a handler thread. Signal-safe in the
/// former.
using FailureHandler = OnError (*)(void* self, const SourceFailure& failure) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// Pages have come, or gone. For explaining and for tracing.
struct Movement {
  bool in = false;                     // filled at a fault; else evicted
  std::uint64_t page = 0;              // index of the first
  std::size_t count = 1;               // in: with those around it
  const std::byte* address = nullptr;  // in: of the first page
  std::uint64_t nanoseconds = 0;       // in: from the handler's begin
};

/// Called where it happens: in a signal handler, or a handler thread. Signal-safe in the former.
using Observer = void (*)(void* self, const Movement& movement) noexcept PAGETRAP_SIGNAL_SAFE;

struct RegionOptions {
  const char* name = "paged";   // in /proc/PID/maps and messages
  std::size_t limit_bytes = 0;  // at most so much of it in memory; 0: the pager's budget alone
  Policy* policy = nullptr;  // of its own, borrowed; null: the pager's common one, or a GhostQueues
                             // of its own if there is a limit
  std::size_t fault_around = 64;  // at most so many pages at once on a stride of 1; 1: off; <= 64
  bool prefetch = true;           // the helper thread reads ahead of sequential accesses
  bool kernel_accesses = false;   // system calls into absent pages are served (handler threads)
  BackendId backend = BackendId::best;
  void* address = nullptr;  // as in pagetrap::RegionOptions
  FailureHandler on_failure = nullptr;
  void* failure_self = nullptr;
  Observer observer = nullptr;
  void* observer_self = nullptr;
  ForkPolicy on_fork = ForkPolicy::rearm;  // absent wherever the source's store is shared
};

struct RegionStatistics {
  std::uint64_t faults = 0;       // that filled a page, or tried to
  std::uint64_t write_traps = 0;  // first writes to a clean page
  std::uint64_t filled = 0;       // pages, those around faults and prefetched ones included
  std::uint64_t prefetched = 0;   // of them, by the helper thread
  std::uint64_t refaults = 0;     // pages that came back while their departure was remembered
  std::uint64_t evicted = 0;      // pages
  std::uint64_t dropped = 0;      // of them, without a call of write_back
  std::uint64_t unchanged = 0;    // of them, found unchanged by write_back
  std::uint64_t rescued = 0;      // touched while they were on their way out
  std::uint64_t failed_fills = 0;
  std::uint64_t failed_writes = 0;
  std::size_t resident_pages = 0;
  std::size_t poisoned_pages = 0;
  std::size_t source_bytes = 0;  // Source::memory_bytes()
};

/// Move-only. Ends with its destruction: dirty pages are NOT written back by it, see flush().
///
/// Threads  Any number of threads may touch pages and call everything but the destructor.
/// Fork     In a fork()ed child the region goes on, as a copy, without the helper thread; or is
///          absent where the source's store is shared. clone(2) called directly: not covered.
class PAGETRAP_API Region {
 public:
  Region() noexcept;
  ~Region();
  Region(Region&& other) noexcept;
  Region& operator=(Region&& other) noexcept;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  /// Reserve `size_bytes`, rounded up to pages; it may be larger than memory. `pager` and `source`
  /// are borrowed and outlive the region.
  /// Errors  those of pagetrap::Region::create; EINVAL names the option.
  /// Cost    9 bytes of bookkeeping per page, committed when the page is first touched.
  static Result<Region> create(Pager& pager, std::size_t size_bytes, Source& source,
                               const RegionOptions& options = {});

  /// Take over private anonymous memory that somebody else mapped, with its contents: pages that
  /// are there are resident and belong to nobody's store yet; those that are not come from
  /// `source`, to which they are fresh. Nothing may write to the range during the call. The mapping
  /// stays the caller's, and may not be unmapped or moved while the region lives.
  static Result<Region> adopt(Pager& pager, PageRange range, Source& source,
                              const RegionOptions& options = {});

  [[nodiscard]] bool valid() const noexcept { return paged_ != nullptr; }
  [[nodiscard]] PageRange range() const noexcept;
  [[nodiscard]] std::byte* data() const noexcept { return range().base; }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return range().size_bytes(); }
  [[nodiscard]] BackendId backend() const noexcept;
  [[nodiscard]] RegionStatistics statistics() const noexcept;
  /// At most so much in memory from now on; evicts down to it. 0: no limit of its own.
  Result<Done> set_limit(std::size_t bytes);

  // --- hints: whole pages of the region, or Error{EINVAL}
  /// Fill what is absent of `range` now, as far as the budget goes without evicting what was there.
  /// `in_background`: by the helper thread; returns at once.
  Result<Done> will_need(PageRange range, bool in_background = true);
  /// These pages are the next victims.
  Result<Done> dont_need(PageRange range);
  /// Read ahead from the first fault on, and make pages that were passed the next victims.
  void sequential(bool on) noexcept;

  /// Hold `range` in memory. `access`  read_write: and writable, so that a system call may write
  /// there that would fail on a page whose first write is trapped (not where all pages are
  /// read-only: pure sources); pages count as written. Errors  ENOMEM: the budget or the limit is
  /// too small for what is pinned; EIO and others: the source's own.
  Result<Pin> pin(PageRange range, Access access = Access::read_write);

  /// Write back all pages that may have been written, and keep them. Writes that go on meanwhile
  /// may or may not be included. Errors  the first of the source's; others are tried all the same.
  Result<Done> flush();
  /// Write back and drop everything that is not pinned: residency 0 (park). Threads that go on
  /// touching pages bring them back.
  Result<Done> evict_all();
  /// Contents of `range` are not wanted: dropped here and in the source, poison too.
  Result<Done> discard(PageRange range);

  /// Wait for faults that are being served.
  void quiesce() noexcept;

 private:
  friend class Pin;
  explicit Region(std::unique_ptr<PagedRegion> paged) noexcept;
  std::unique_ptr<PagedRegion> paged_;
};

/// While it lives, its pages stay in memory. Move-only; ends before its region.
class PAGETRAP_API Pin {
 public:
  Pin() noexcept = default;
  ~Pin() { reset(); }
  Pin(Pin&& other) noexcept;
  Pin& operator=(Pin&& other) noexcept;
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;
  void reset() noexcept;
  [[nodiscard]] PageRange range() const noexcept { return range_; }

 private:
  friend class Region;
  Pin(PagedRegion* paged, PageRange range) noexcept : paged_(paged), range_(range) {}
  PagedRegion* paged_ = nullptr;
  PageRange range_;
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
