#include "pager/engine.hpp"

#include <algorithm>
#include <cerrno>

#include "pager/gate.hpp"
#include "pager/paged_region.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

Engine::Engine(const PagerOptions& the_options)
    : options(the_options), budget_(the_options.budget_bytes) {
  pools[0].policy = &common_policy_;
}

Engine::~Engine() {
  delist(this);
  helper.stop();
}

Result<std::unique_ptr<Engine>> Engine::create(const PagerOptions& options) {
  if (options.budget_bytes < page_size())
    return Error{"PagerOptions.budget_bytes", EINVAL, {}, "at least one page"};
  if (options.eviction_batch == 0 || options.eviction_batch > kMostAtOnce)
    return Error{"PagerOptions.eviction_batch", EINVAL, {}, "must be between 1 and 64"};
  if (options.handler_threads == 0 || options.handler_threads > 1024)
    return Error{"PagerOptions.handler_threads", EINVAL, {}, "must be between 1 and 1024"};
  auto engine = std::make_unique<Engine>(options);
  if (auto done = engine->scratch.reserve(); !done) return done.error();
  if (auto done = engine->departures.reserve(); !done) return done.error();
  if (auto done = engine->frames.reserve(); !done) return done.error();
  if (options.helper_thread) {
    if (auto done = engine->helper.start(); !done) return done.error();
  }
  enlist(engine.get());
  return engine;
}

// Pages move between regions of one userfaultfd, which those share that are made alike.
Result<Done> Engine::attach_staging(BackendId backend, bool kernel_accesses, Staging*& staging) {
  staging = nullptr;
  if (backend != BackendId::uffd_inline && backend != BackendId::uffd_thread) return Done{};
  const bool threads = backend == BackendId::uffd_thread;
  const std::size_t kind = !threads ? 0 : kernel_accesses ? 2 : 1;
  const std::lock_guard guard(control_);
  if (!staging_[kind].has_value()) {
    pagetrap::RegionOptions like;
    like.faults = FaultKind::missing | FaultKind::write_protected;
    like.backend = backend;
    like.kernel_accesses = kernel_accesses;
    like.handler_threads = options.handler_threads;
    like.huge_pages = HugePages::never;
    staging_[kind].emplace();
    if (auto made = staging_[kind]->create(like); !made) {
      staging_[kind].reset();
      return made.error();
    }
  }
  staging = &*staging_[kind];
  return Done{};
}

Pool* Engine::new_pool(Policy* policy, std::size_t limit_bytes) {
  const std::size_t limit =
      limit_bytes == 0 ? ~std::size_t{0} : std::max<std::size_t>(1, limit_bytes >> page_shift());
  const Inside inside;
  const Locked locked(lock);
  for (Pool& pool : pools) {
    if (pool.policy != nullptr) continue;
    pool.policy = policy;
    pool.used.store(0);
    pool.limit.store(limit);
    pool.stores.store(false);
    return &pool;
  }
  return nullptr;
}

void Engine::end_pool(Pool& pool) noexcept {
  const Inside inside;
  const Locked locked(lock);
  pool.policy = nullptr;
  pool.used.store(0);
}

void Engine::add(PagedRegion* region) {
  const std::lock_guard guard(control_);
  regions_.push_back(region);
}

void Engine::remove(PagedRegion* region) noexcept {
  const std::lock_guard guard(control_);
  std::erase(regions_, region);
}

// Nobody was inside. Locks of the control side may have been held by threads that are not here; the
// forking thread is the only one, and holds none.
void Engine::in_child() noexcept {
  helper.in_child();
  for (PagedRegion* const region : regions_) {
    if (region->memory.range().empty()) {
      forget_region(*region);
      region->absent.store(true);
      continue;
    }
    region->source.in_child();
  }
}

PagerStatistics Engine::statistics() const noexcept {
  PagerStatistics statistics;
  statistics.budget_bytes = budget_.load();
  statistics.resident_bytes = used_.load() << page_shift();
  statistics.source_bytes = source_bytes_.load();
  statistics.evictions = evictions_.load();
  statistics.eviction_batches = batches_.load();
  statistics.moved_out = moved_out_.load();
  statistics.over_budget = over_budget_.load();
  return statistics;
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
