// PagedRegion: what a pager::Region is behind its face. The fault path is in fault.cpp and
// fill.cpp.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include <pagetrap/pager/region.hpp>
#include <pagetrap/vm/region.hpp>

#include "pager/engine.hpp"
#include "pager/openings.hpp"
#include "pager/page_word.hpp"
#include "pager/streams.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

/// Counters, apart from what faults read.
struct alignas(64) Tally {
  std::atomic<std::uint64_t> faults{0};
  std::atomic<std::uint64_t> write_traps{0};
  std::atomic<std::uint64_t> filled{0};
  std::atomic<std::uint64_t> prefetched{0};
  std::atomic<std::uint64_t> refaults{0};
  std::atomic<std::uint64_t> evicted{0};
  std::atomic<std::uint64_t> dropped{0};
  std::atomic<std::uint64_t> unchanged{0};
  std::atomic<std::uint64_t> rescued{0};
  std::atomic<std::uint64_t> failed_fills{0};
  std::atomic<std::uint64_t> failed_writes{0};
  std::atomic<std::size_t> resident{0};
  std::atomic<std::size_t> poisoned{0};
};

inline void count(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) noexcept
    PAGETRAP_SIGNAL_SAFE {
  counter.fetch_add(by, std::memory_order_relaxed);
}

/// Why a page is filled.
enum class Errand : std::uint8_t { fault, pin };

class PagedRegion {
 public:
  /// `adopted`: memory of somebody else's; empty: reserve `size_bytes`.
  static Result<std::unique_ptr<PagedRegion>> create(Engine& engine, std::size_t size_bytes,
                                                     PageRange adopted, Source& source,
                                                     const RegionOptions& options);
  PagedRegion(Engine& engine, Source& source, const RegionOptions& options);
  ~PagedRegion();
  PagedRegion(const PagedRegion&) = delete;
  PagedRegion& operator=(const PagedRegion&) = delete;

  [[nodiscard]] PageSlot& slot(std::uint64_t index) noexcept PAGETRAP_SIGNAL_SAFE {
    return reinterpret_cast<PageSlot*>(table_.data())[index];
  }
  [[nodiscard]] PageRange pages(std::uint64_t first, std::size_t count) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return {base + (first << page_shift()), Pages{count}};
  }
  [[nodiscard]] std::uint64_t index_of(const std::byte* address) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return static_cast<std::uint64_t>(address - base) >> page_shift();
  }

  /// Pages that are filled now are mapped writable although nobody has written them yet.
  [[nodiscard]] bool opens_at_once(std::size_t count) noexcept PAGETRAP_SIGNAL_SAFE {
    return traits.finds_changes &&
           (engine.alone.load(std::memory_order_relaxed) || openings.next(count));
  }
  [[nodiscard]] bool read_only() const noexcept PAGETRAP_SIGNAL_SAFE { return traits.pure; }

  static Verdict handle(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;

  /// Bring page `index` in, from whatever stage. False: its source failed for good.
  bool bring(std::uint64_t index, Errand errand) noexcept PAGETRAP_SIGNAL_SAFE;
  /// A page that its evictor has staged, back into its place. For whoever set `rescuing`.
  void put_back(std::uint64_t index, PageWord word) noexcept PAGETRAP_SIGNAL_SAFE;
  Result<Done> discard(std::uint64_t first, std::size_t count);
  /// One pin more; brings the page first.
  bool hold(std::uint64_t index, bool for_writing) noexcept;
  void let_go(std::uint64_t index) noexcept;
  /// A copy of a page, if it is resident now.
  bool copy_out(std::uint64_t index, std::byte* to) noexcept;
  /// Say on standard error, or to the owner, what failed.
  OnError report(const SourceFailure& failure) noexcept PAGETRAP_SIGNAL_SAFE;

  Engine& engine;
  Source& source;
  const SourceTraits traits;
  const std::string name;
  const RegionOptions options;
  Pool* pool = nullptr;
  std::byte* base = nullptr;
  std::uint64_t length = 0;  // pages
  pagetrap::Region memory;
  Staging* staging = nullptr;  // null: pages are copied out
  bool by_handler_threads = false;
  std::atomic<bool> may_move{true};
  std::atomic<bool> is_sequential{false};
  std::atomic<bool> absent{false};  // in this fork()ed child
  std::atomic<std::size_t> source_bytes{0};
  std::atomic<int> last_error{0};  // errno value of the last failed write_back
  Streams streams;
  Openings openings;
  Tally tally;

 private:
  Verdict on_fault(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  Verdict serve(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  bool share_read_ahead(std::uint64_t index) noexcept PAGETRAP_SIGNAL_SAFE;
  /// These three: false, or void: look again at what the page is.
  bool open_for_writing(std::uint64_t index, PageWord word) noexcept PAGETRAP_SIGNAL_SAFE;
  static bool is_dropped(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  void replace_dropped(std::uint64_t index, PageWord word) noexcept PAGETRAP_SIGNAL_SAFE;
  bool rescue(std::uint64_t index, PageWord word, bool write) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] Result<Done> reserve(std::size_t size_bytes, PageRange adopted);
  Result<Done> adopt_resident();

  std::atomic<bool> complained_{false};
  GhostQueues own_policy_;
  sys::Mapping table_;
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
