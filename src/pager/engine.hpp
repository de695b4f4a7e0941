// Engine: what all regions of a pager share. Budget, frames, policies' pools, eviction.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include <pagetrap/pager/pager.hpp>

#include "pager/departures.hpp"
#include "pager/frames.hpp"
#include "pager/helper.hpp"
#include "pager/scratch.hpp"
#include "pager/spin_lock.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

class PagedRegion;

/// The frames that one policy decides about. Type-stable: the engine has a fixed number of them.
struct Pool {
  Policy* policy = nullptr;                         // GUARDED_BY(Engine::lock); null: not in use
  std::atomic<std::size_t> used{0};                 // pages: in memory, or on their way in
  std::atomic<std::size_t> limit{~std::size_t{0}};  // pages
  std::atomic<bool> stores{false};                  // a region of it is not of a pure source
};

/// What an eviction came to.
struct EvictionCount {
  std::size_t gone = 0;
  std::size_t refused = 0;  // by their source
};

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> create(const PagerOptions& options);
  explicit Engine(const PagerOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // --- budget (budget.cpp)
  /// Room for one page of `pool` and as many more, up to `wanted`, as can be had without waiting;
  /// evicts. Returns how many, at least one.
  std::size_t make_room(Pool& pool, std::size_t wanted) noexcept PAGETRAP_SIGNAL_SAFE;
  /// As far as it is free.
  std::size_t take_free_room(Pool& pool, std::size_t wanted) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Whatever the budget says.
  void force_room(Pool& pool) noexcept PAGETRAP_SIGNAL_SAFE;
  void give_back_room(Pool& pool, std::size_t pages) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] std::size_t allowed_pages() const noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] std::size_t budget() const noexcept { return budget_.load(); }
  Result<Done> set_budget(std::size_t budget_bytes);
  /// Evict until `pool` and the whole are within their limits. ENOMEM: what is there is pinned.
  Result<Done> shrink(Pool& pool);
  void count_source_bytes(std::atomic<std::size_t>& last, std::size_t now) noexcept
      PAGETRAP_SIGNAL_SAFE;
  /// False: too little would be left for what is not pinned.
  bool add_pins(Pool& pool, std::size_t pages) noexcept;
  void remove_pins(std::size_t pages) noexcept;

  // --- frames (residency.cpp)
  /// Pages [first, first + before.size()) of `region` have been supplied: makes them resident, from
  /// what they were before they were filling.
  void admit(PagedRegion& region, std::uint64_t first, std::span<const PageWord> before,
             bool first_writable, bool others_writable) noexcept PAGETRAP_SIGNAL_SAFE;
  /// False if the page is not resident.
  bool tell_policy(PagedRegion& region, std::uint64_t index, FrameEvent event) noexcept
      PAGETRAP_SIGNAL_SAFE;
  /// The pages of `region` that have a frame, at least those that had one all the time.
  std::vector<std::uint64_t> pages_of(const PagedRegion& region);
  /// The region ends, or is absent in this child: waits for what is in transit, frees its frames.
  void forget_region(PagedRegion& region) noexcept;
  /// The next victims of `pool` whose source has not seen a copy, as far as `out` goes.
  std::size_t unprepared(Pool& pool, std::span<FrameId> out) noexcept;
  /// One pin more, or less. False: not resident at this moment, or pinned as often as can be.
  bool change_pins(PagedRegion& region, std::uint64_t index, bool more) noexcept;
  /// A resident page whose contents nobody wants. False: it is not resident any more. Inside the
  /// gate.
  Result<bool> drop_page(PagedRegion& region, std::uint64_t index);
  static Result<std::vector<PageRange>> present_pages(PageRange range);

  // --- eviction (eviction.cpp)
  /// At most `wanted` pages of `pool`. Inside the gate.
  EvictionCount evict(Pool& pool, std::size_t wanted) noexcept PAGETRAP_SIGNAL_SAFE;
  /// These pages, as far as they are resident and not pinned. `keep`: write those back that may
  /// differ from what their source has, pinned ones too, and let them stay.
  EvictionCount evict_pages(PagedRegion& region, std::span<const std::uint64_t> pages,
                            bool keep = false) noexcept;

  // --- regions (engine.cpp)
  /// Where regions of that delivery move pages out to. Null: they cannot.
  Result<Done> attach_staging(BackendId backend, bool kernel_accesses, Staging*& staging);
  Pool* new_pool(Policy* policy, std::size_t limit_pages);
  void end_pool(Pool& pool) noexcept;
  void add(PagedRegion* region);
  void remove(PagedRegion* region) noexcept;
  void in_child() noexcept;
  [[nodiscard]] PagerStatistics statistics() const noexcept;
  [[nodiscard]] std::uint32_t evictions_now() const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<std::uint32_t>(evictions_.load(std::memory_order_relaxed));
  }

  const PagerOptions options;
  static constexpr std::size_t kPools = 64;
  std::array<Pool, kPools> pools;  // the first: of all regions without one of their own
  Scratch scratch;
  Departures departures;
  Frames frames;
  SpinLock lock;
  Helper helper{*this};
  /// What the last eviction found: no other thread of the program could run. A hint to the next.
  std::atomic<bool> alone{false};

 private:
  friend class Eviction;
  [[nodiscard]] Pool& pool_to_shrink(Pool& preferred) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] std::size_t batch_for(const Pool& pool) const noexcept PAGETRAP_SIGNAL_SAFE;

  std::atomic<std::size_t> budget_;   // bytes
  std::atomic<std::size_t> used_{0};  // pages of all pools
  std::atomic<std::size_t> source_bytes_{0};
  std::atomic<std::size_t> pinned_{0};
  std::atomic<std::uint64_t> evictions_{0};
  std::atomic<std::uint64_t> batches_{0};
  std::atomic<std::uint64_t> moved_out_{0};
  std::atomic<std::uint64_t> over_budget_{0};
  GhostQueues common_policy_;

  std::mutex control_;                             // regions come and go
  std::vector<PagedRegion*> regions_;              // GUARDED_BY(control_)
  std::array<std::optional<Staging>, 3> staging_;  // GUARDED_BY(control_), by kind of delivery
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
