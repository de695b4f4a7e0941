// Who may have how much. A page is counted before it is filled, and until after it is unmapped: at
// no instant are more in memory than allowed.
#include <algorithm>
#include <cerrno>

#include "pager/engine.hpp"
#include "pager/gate.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {
namespace {

// Takes up to `wanted` from what is left below `limit`.
std::size_t take_below(std::atomic<std::size_t>& used, std::size_t limit,
                       std::size_t wanted) noexcept PAGETRAP_SIGNAL_SAFE {
  std::size_t now = used.load(std::memory_order_relaxed);
  for (;;) {
    if (now >= limit) return 0;
    const std::size_t granted = std::min(wanted, limit - now);
    if (used.compare_exchange_weak(now, now + granted, std::memory_order_acq_rel)) return granted;
  }
}

}  // namespace

std::size_t Engine::allowed_pages() const noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t budget = budget_.load(std::memory_order_relaxed);
  const std::size_t held = source_bytes_.load(std::memory_order_relaxed);
  const std::size_t left = budget > held ? budget - held : 0;
  return std::max<std::size_t>(1, left >> page_shift());
}

std::size_t Engine::take_free_room(Pool& pool, std::size_t wanted) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t granted = take_below(used_, allowed_pages(), wanted);
  if (granted == 0) return 0;
  const std::size_t both =
      take_below(pool.used, pool.limit.load(std::memory_order_relaxed), granted);
  if (both < granted) used_.fetch_sub(granted - both, std::memory_order_acq_rel);
  return both;
}

void Engine::give_back_room(Pool& pool, std::size_t pages) noexcept PAGETRAP_SIGNAL_SAFE {
  if (pages == 0) return;
  pool.used.fetch_sub(pages, std::memory_order_acq_rel);
  used_.fetch_sub(pages, std::memory_order_acq_rel);
}

std::size_t Engine::batch_for(const Pool& pool) const noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t room = std::min(allowed_pages(), pool.limit.load(std::memory_order_relaxed));
  // Frozen one by one, pages interrupt the other CPUs one by one.
  const bool one_by_one = !alone.load(std::memory_order_relaxed);
  const bool stores = pool.stores.load(std::memory_order_relaxed);
  if (stores && one_by_one) return std::clamp<std::size_t>(room / 8, 1, options.eviction_batch);
  // Little but the one interruption costs anything then: 25 us in a virtual machine.
  const std::size_t most = std::min((stores ? 4 : 8) * options.eviction_batch, kMostAtOnce);
  return std::clamp<std::size_t>(room / (stores ? 8 : 4), 1, most);
}

// The pool that is over its own limit; else, if the whole budget is short, the faulting one unless
// it is small beside another.
Pool& Engine::pool_to_shrink(Pool& preferred) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t own = preferred.used.load(std::memory_order_relaxed);
  if (own >= preferred.limit.load(std::memory_order_relaxed)) return preferred;
  Pool* largest = &preferred;
  for (Pool& pool : pools) {
    if (pool.used.load(std::memory_order_relaxed) > largest->used.load(std::memory_order_relaxed))
      largest = &pool;
  }
  return own >= largest->used.load(std::memory_order_relaxed) / 2 && own > 1 ? preferred : *largest;
}

// Other threads' fills and evictions end by themselves, so waiting for them is right, within
// reason. What does not end is a budget that is all pinned, or held by fills that this very fault
// is nested in, or by pages that their source refuses to take: then the page is let in all the
// same.
std::size_t Engine::make_room(Pool& pool, std::size_t wanted) noexcept PAGETRAP_SIGNAL_SAFE {
  constexpr std::uint64_t kPatience = 100'000'000;  // ns; arbitrary, far beyond an eviction
  constexpr int kMostRounds = 32;                   // a source may grow by what pages shrink
  std::size_t granted = take_free_room(pool, wanted);
  if (granted == wanted) return granted;
  std::uint64_t since = 0;
  for (int rounds = 0; rounds < kMostRounds;) {
    const EvictionCount count =
        evict(pool_to_shrink(pool), std::max(wanted - granted, batch_for(pool)));
    granted += take_free_room(pool, wanted - granted);
    if (granted != 0) return granted;
    if (count.gone != 0) {
      ++rounds;
      continue;
    }
    if (count.refused != 0) break;
    const std::uint64_t now = sys::monotonic_nanoseconds();
    if (since == 0) since = now;
    if (now - since > kPatience) break;
    sys::yield();
  }
  over_budget_.fetch_add(1, std::memory_order_relaxed);
  force_room(pool);
  return 1;
}

void Engine::force_room(Pool& pool) noexcept PAGETRAP_SIGNAL_SAFE {
  used_.fetch_add(1, std::memory_order_acq_rel);
  pool.used.fetch_add(1, std::memory_order_acq_rel);
}

Result<Done> Engine::set_budget(std::size_t budget_bytes) {
  if (budget_bytes < page_size())
    return Error{"PagerOptions.budget_bytes", EINVAL, {}, "at least one page"};
  budget_.store(budget_bytes);
  return shrink(pools[0]);
}

Result<Done> Engine::shrink(Pool& pool) {
  constexpr std::uint64_t kPatience = 1'000'000'000;
  std::uint64_t since = 0;
  for (;;) {
    const bool whole = used_.load() > allowed_pages();
    const bool own = pool.used.load() > pool.limit.load();
    if (!whole && !own) return Done{};
    EvictionCount count;
    {
      const Inside inside;
      count = evict(own ? pool : pool_to_shrink(pool), kMostAtOnce);
    }
    const std::uint64_t now = sys::monotonic_nanoseconds();
    if (count.gone != 0 || since == 0) since = now;
    if (count.refused != 0 && count.gone == 0)
      return Error{"shrinking a pager", EIO, {}, "a source does not take pages back"};
    if (now - since > kPatience)
      return Error{"shrinking a pager", ENOMEM, {}, "too many pages are pinned"};
    if (count.gone == 0) sys::yield();
  }
}

void Engine::count_source_bytes(std::atomic<std::size_t>& last, std::size_t now) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (last.load(std::memory_order_relaxed) == now) return;
  // Of threads that do this at once each adds its own difference: the sum is right.
  const std::size_t before = last.exchange(now, std::memory_order_acq_rel);
  source_bytes_.fetch_add(now - before, std::memory_order_acq_rel);
}

bool Engine::add_pins(Pool& pool, std::size_t pages) noexcept {
  // Something must be left to evict, or every fault would wait for it.
  const std::size_t most = std::min(allowed_pages(), pool.limit.load());
  const std::size_t kept = std::max<std::size_t>(1, most / 16);
  const std::size_t granted = take_below(pinned_, most > kept ? most - kept : 0, pages);
  if (granted == pages) return true;
  pinned_.fetch_sub(granted);
  return false;
}

void Engine::remove_pins(std::size_t pages) noexcept { pinned_.fetch_sub(pages); }

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
