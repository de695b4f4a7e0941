#include <pagetrap/pager/tiered_source.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "pager/spin_lock.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {
namespace {

enum class Tier : std::uint32_t { nowhere, upper, lower };

constexpr std::uint32_t kNone = ~std::uint32_t{0};
constexpr std::size_t kMoveAtOnce = 16;

}  // namespace

/// Where each page's contents are, and the order in which pages came to the upper tier: a list
/// through the page table itself.
struct TieredSource::State {
  struct Entry {
    std::uint32_t previous;  // + 1, so that untouched memory is an empty entry
    std::uint32_t next;      // + 1
    Tier tier;
    std::uint32_t busy;  // on its way from the upper to the lower tier, or being written
  };

  State(Source& the_upper, Source& the_lower, std::size_t the_capacity) noexcept
      : upper(the_upper), lower(the_lower), capacity(the_capacity) {}

  Source& upper;
  Source& lower;
  const std::size_t capacity;
  sys::Mapping table;
  sys::Mapping transit;  // pages that move from tier to tier
  std::atomic<std::size_t> in_upper{0};
  SpinLock lock;                    // the list and the tiers; never over a source's call
  std::atomic<bool> moving{false};  // one thread moves pages at a time
  std::uint32_t oldest = kNone;     // GUARDED_BY(lock)
  std::uint32_t newest = kNone;     // GUARDED_BY(lock)

  Entry& entry(std::uint64_t page) noexcept PAGETRAP_SIGNAL_SAFE {
    return reinterpret_cast<Entry*>(table.data())[page];
  }

  void append(std::uint32_t page) noexcept PAGETRAP_SIGNAL_SAFE {
    entry(page).previous = newest + 1;
    entry(page).next = 0;
    if (newest != kNone) {
      entry(newest).next = page + 1;
    } else {
      oldest = page;
    }
    newest = page;
    entry(page).tier = Tier::upper;
    in_upper.fetch_add(1, std::memory_order_relaxed);
  }

  void unlink(std::uint32_t page) noexcept PAGETRAP_SIGNAL_SAFE {
    const std::uint32_t previous = entry(page).previous;
    const std::uint32_t next = entry(page).next;
    if (previous != 0) {
      entry(previous - 1).next = next;
    } else {
      oldest = next - 1;
    }
    if (next != 0) {
      entry(next - 1).previous = previous;
    } else {
      newest = previous - 1;
    }
    in_upper.fetch_sub(1, std::memory_order_relaxed);
  }

  /// The tier that has `page`, once it is not between the two.
  Tier settled(std::uint64_t page) noexcept PAGETRAP_SIGNAL_SAFE {
    for (;;) {
      {
        const Locked locked(lock);
        if (entry(page).busy == 0) return entry(page).tier;
      }
      sys::yield();
    }
  }

  /// A page that is about to be written: out of the list, though perhaps still in the upper tier.
  void withdraw(std::uint32_t page) noexcept PAGETRAP_SIGNAL_SAFE {
    const Locked locked(lock);
    if (entry(page).tier == Tier::upper) unlink(page);
    entry(page).busy = 1;
  }
  void place(std::uint32_t page, Tier tier) noexcept PAGETRAP_SIGNAL_SAFE {
    const Locked locked(lock);
    entry(page).tier = tier;
    if (tier == Tier::upper) append(page);
    entry(page).busy = 0;
  }
  /// It could not be written.
  void restore(std::uint32_t page) noexcept PAGETRAP_SIGNAL_SAFE { place(page, entry(page).tier); }

  Error overflow() noexcept PAGETRAP_SIGNAL_SAFE;
  Error move_down(std::span<const std::uint32_t> pages, std::size_t& moved) noexcept
      PAGETRAP_SIGNAL_SAFE;
};

// Reads pages from the upper tier and stores them in the lower one. They are busy meanwhile.
Error TieredSource::State::move_down(std::span<const std::uint32_t> pages,
                                     std::size_t& moved) noexcept PAGETRAP_SIGNAL_SAFE {
  for (moved = 0; moved < pages.size(); ++moved) {
    const PageRef page{pages[moved], transit.data() + (moved << page_shift())};
    const Transfer up = upper.fill(std::span(&page, 1));
    if (up.done != 1) return up.error;
    const Transfer down = lower.write_back(std::span(&page, 1));
    if (down.done != 1) return down.error;
    upper.forget(page.index, 1);
  }
  return {};
}

// Brings the upper tier down to its capacity. One thread at a time; the others go on: the tier may
// be over by what they write meanwhile, at most a batch each.
Error TieredSource::State::overflow() noexcept PAGETRAP_SIGNAL_SAFE {
  while (in_upper.load(std::memory_order_relaxed) > capacity) {
    if (moving.exchange(true, std::memory_order_acquire)) return {};
    std::array<std::uint32_t, kMoveAtOnce> pages;
    std::size_t count = 0;
    {
      const Locked locked(lock);
      while (count < pages.size() && oldest != kNone &&
             in_upper.load(std::memory_order_relaxed) > capacity) {
        pages[count] = oldest;
        unlink(oldest);
        entry(pages[count++]).busy = 1;
      }
    }
    std::size_t moved = 0;
    const Error error = move_down(std::span(pages).first(count), moved);
    {
      const Locked locked(lock);
      for (std::size_t i = 0; i < count; ++i) {
        if (i < moved) {
          entry(pages[i]).tier = Tier::lower;
        } else {
          append(pages[i]);
        }
        entry(pages[i]).busy = 0;
      }
    }
    moving.store(false, std::memory_order_release);
    if (error.number != 0 || moved < count) return error;
  }
  return {};
}

Result<std::unique_ptr<TieredSource>> TieredSource::create(Source& upper, std::size_t upper_pages,
                                                           Source& lower, std::uint64_t pages) {
  if (upper_pages == 0 || pages == 0 || pages >= kNone)
    return Error{"TieredSource::create", EINVAL, {}, "no pages, or too many"};
  auto state = std::make_unique<State>(upper, lower, upper_pages);
  sys::Mapping::Request request;
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  request.size_bytes = pages * sizeof(State::Entry);
  auto table = sys::Mapping::create(request);
  if (!table) return table.error();
  state->table = std::move(*table);
  request.size_bytes = bytes(Pages{kMoveAtOnce});
  auto transit = sys::Mapping::create(request);
  if (!transit) return transit.error();
  state->transit = std::move(*transit);
  return std::unique_ptr<TieredSource>(new TieredSource(std::move(state)));
}

TieredSource::TieredSource(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
TieredSource::~TieredSource() = default;

SourceTraits TieredSource::traits() const noexcept {
  const SourceTraits upper = state_->upper.traits();
  const SourceTraits lower = state_->lower.traits();
  SourceTraits both;
  both.retains_copy = upper.retains_copy && lower.retains_copy;
  both.finds_changes = upper.finds_changes && lower.finds_changes;
  both.may_block = upper.may_block || lower.may_block;
  both.signal_safe = upper.signal_safe && lower.signal_safe;
  both.shared_store = upper.shared_store || lower.shared_store;
  return both;
}

// A page that neither tier has is fresh: the lower one says what such a page is.
Transfer TieredSource::fill(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE {
  Transfer sum;
  while (sum.done < pages.size()) {
    const Tier tier = state_->settled(pages[sum.done].index);
    std::size_t count = 1;
    while (sum.done + count < pages.size() &&
           (state_->settled(pages[sum.done + count].index) == Tier::upper) == (tier == Tier::upper))
      ++count;
    // RACE the run may be moved down between the look and the call. Then the upper tier has
    // forgotten it, and says so by nothing that tells it from a fresh page: look again.
    Source& from = tier == Tier::upper ? state_->upper : state_->lower;
    const Transfer part = from.fill(pages.subspan(sum.done, count));
    std::size_t good = std::min(part.done, count);
    for (std::size_t i = 0; i < good; ++i) {
      const bool same =
          (state_->settled(pages[sum.done + i].index) == Tier::upper) == (tier == Tier::upper);
      if (!same) good = i;
    }
    sum.done += good;
    if (good == count || good < std::min(part.done, count)) continue;
    sum.error = part.error;
    return sum;
  }
  return sum;
}

// RACE an overflow may be about to move one of these pages down, and would store what is half
// overwritten. So they are taken out of the list first, and one that is on its way down is waited
// for.
Transfer TieredSource::write_back(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE {
  for (const PageRef& page : pages) {
    static_cast<void>(state_->settled(page.index));
    state_->withdraw(static_cast<std::uint32_t>(page.index));
  }
  Transfer sum;
  while (sum.done < pages.size()) {
    const auto rest = pages.subspan(sum.done);
    const Transfer part = state_->upper.write_back(rest);
    const std::size_t good = std::min(part.done, rest.size());
    sum.unchanged += part.unchanged;
    for (const PageRef& page : rest.first(good))
      state_->place(static_cast<std::uint32_t>(page.index), Tier::upper);
    sum.done += good;
    if (good == rest.size()) break;
    // The upper tier takes it not: then the lower one.
    const PageRef& page = rest[good];
    const Transfer down = state_->lower.write_back(std::span(&page, 1));
    if (down.done != 1) {
      sum.error = down.error;
      break;
    }
    state_->upper.forget(page.index, 1);
    state_->place(static_cast<std::uint32_t>(page.index), Tier::lower);
    ++sum.done;
  }
  for (const PageRef& page : pages.subspan(sum.done))
    state_->restore(static_cast<std::uint32_t>(page.index));
  // What is stored is stored: that the tier is over its capacity for now is no failure of a page.
  static_cast<void>(state_->overflow());
  return sum;
}

void TieredSource::forget(std::uint64_t first, std::size_t count) noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::uint64_t page = first; page < first + count; ++page) {
    const Tier tier = state_->settled(page);
    if (tier == Tier::nowhere) continue;
    const Locked locked(state_->lock);
    if (state_->entry(page).tier == Tier::upper) state_->unlink(static_cast<std::uint32_t>(page));
    state_->entry(page).tier = Tier::nowhere;
  }
  state_->upper.forget(first, count);
  state_->lower.forget(first, count);
}

void TieredSource::prefetch(std::uint64_t first, std::size_t count) noexcept {
  state_->lower.prefetch(first, count);
}

std::size_t TieredSource::memory_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
  return state_->upper.memory_bytes() + state_->lower.memory_bytes();
}

void TieredSource::in_child() noexcept {
  state_->upper.in_child();
  state_->lower.in_child();
}

std::size_t TieredSource::pages_in_upper() const noexcept { return state_->in_upper.load(); }

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
