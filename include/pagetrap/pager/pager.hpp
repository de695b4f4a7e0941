// The entrance to the pager: regions larger than the memory they may use. docs/design/pager.md
// tells the mechanisms and the races.
//
//   auto roots = pager::computed([](std::uint64_t page, std::byte* bytes) noexcept { ... });
//   auto pager = pager::Pager::create({.budget_bytes = 16_MiB}).value();
//   auto table = pager::Region::create(*pager, 1_TiB, roots).value();
//   table.data()[anything]   // filled when it is touched, gone when the budget says so
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/pager/checked_view.hpp>
#include <pagetrap/pager/computed_source.hpp>
#include <pagetrap/pager/file_source.hpp>
#include <pagetrap/pager/policy.hpp>
#include <pagetrap/pager/region.hpp>
#include <pagetrap/pager/source.hpp>
#include <pagetrap/pager/tiered_source.hpp>

namespace pagetrap {
inline namespace v0 {
namespace pager {

class Engine;  // src/pager/engine.hpp

struct PagerOptions {
  /// Memory for resident pages and what sources hold, of all regions together; at least a page.
  std::size_t budget_bytes = 64_MiB;
  /// Pages evicted at once: hides the cost of TLB shootdowns, and is how many pages one fault may
  /// have to store. 1 to 64; at most an eighth of the budget is used. Eight times as many, up to a
  /// quarter, where all regions are of pure sources, whose pages are only dropped.
  std::size_t eviction_batch = 8;
  /// A thread that reads ahead and lets sources prepare victims. Without it both are left out.
  bool helper_thread = true;
  /// For regions whose faults are served by handler threads.
  unsigned handler_threads = 1;
};

struct PagerStatistics {
  std::size_t budget_bytes = 0;
  std::size_t resident_bytes = 0;  // of regions
  std::size_t source_bytes = 0;    // held by sources
  std::uint64_t evictions = 0;     // pages
  std::uint64_t eviction_batches = 0;
  std::uint64_t moved_out = 0;    // of the evictions, by UFFDIO_MOVE
  std::uint64_t over_budget = 0;  // times a page was filled although nothing could be evicted
};

/// One engine: a budget and its bookkeeping. A program needs one; libraries may each have their
/// own. Outlives its regions.
class PAGETRAP_API Pager {
 public:
  /// Errors  EINVAL names the option; ENOMEM; EAGAIN: no thread.
  static Result<std::unique_ptr<Pager>> create(const PagerOptions& options = {});
  ~Pager();
  Pager(const Pager&) = delete;
  Pager& operator=(const Pager&) = delete;

  /// Threads any. A smaller budget is reached before this returns, as far as pages are not pinned:
  /// ENOMEM if they are; the new budget holds all the same.
  Result<Done> set_budget(std::size_t bytes);
  [[nodiscard]] std::size_t budget() const noexcept;
  [[nodiscard]] PagerStatistics statistics() const noexcept;

 private:
  friend class Region;
  explicit Pager(std::unique_ptr<Engine> engine) noexcept;
  std::unique_ptr<Engine> engine_;
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
