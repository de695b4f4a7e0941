#include "gc/twin.hpp"

#include <cerrno>
#include <cstddef>

#include "gc/heap_state.hpp"
#include "gc/scan.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

using detail::BarrierState;
using detail::Header;
using detail::Layout;

static_assert(sizeof(PageInfo) == BarrierState::kRecordBytes);
static_assert(offsetof(PageInfo, epoch) == BarrierState::kEpochAt);
static_assert(offsetof(PageInfo, kind) == BarrierState::kKindAt);
static_assert(sizeof(std::atomic<PageKind>) == 1 && sizeof(std::atomic<std::uint32_t>) == 4);
static_assert(kPageBytes == BarrierState::kPageBytes);

namespace detail {

constinit thread_local BarrierState barriers;

// RACE the cycle ends meanwhile: whoever frees from-space waits until nobody is in here, and who
// comes later finds a slot that the last scan has seen. The slot is written through the collector's
// view: healing is no write of the program's.
void* load_slowly(const void* slot) noexcept {
  Thread* const thread = this_gc_thread();
  const Critical critical(thread);
  auto& word = *static_cast<std::uint64_t*>(const_cast<void*>(slot));
  if (thread == nullptr)
    return reinterpret_cast<void*>(std::atomic_ref(word).load(std::memory_order_acquire));
  HeapState& heap = *thread->heap;
  heap.twin.loads.fetch_add(1, std::memory_order_seq_cst);
  std::uint64_t seen = std::atomic_ref(word).load(std::memory_order_seq_cst);
  std::uint64_t now = seen;
  // What it copies is as much the cycle's work as what a trap copies.
  const Scanning::Trap trap(heap.scanning);
  if (trap.active()) {
    now = forward(heap, thread->worker, seen);
    const std::uintptr_t offset = heap.spaces.offset(reinterpret_cast<std::uintptr_t>(slot));
    if (now != seen && offset < heap.spaces.size()) {
      auto& view = *reinterpret_cast<std::uint64_t*>(heap.spaces.view_at(offset));
      std::atomic_ref(view).compare_exchange_strong(seen, now, std::memory_order_acq_rel);
      thread->worker.traps.store(thread->worker.traps.load(std::memory_order_relaxed) + 1,
                                 std::memory_order_relaxed);
    }
  }
  heap.twin.loads.fetch_sub(1, std::memory_order_seq_cst);
  return reinterpret_cast<void*>(now);
}

}  // namespace detail

Result<PageSupply> Twin::supply_for(Barriers barriers, PageSupply wanted) {
  // What is not closed need not be opened.
  if (barriers == Barriers::both) return PageSupply::none;
  if (barriers != Barriers::checked_loads) return wanted;
  if (wanted == PageSupply::best) return PageSupply::uffd_minor;
  if (wanted != PageSupply::uffd_minor)
    return Error{"gc::Options.supply", EINVAL, {}, "checked loads need uffd-minor to find writes"};
  return wanted;
}

Outcome Twin::create(HeapState& heap) {
  barriers = heap.options.barriers;
  if (barriers == Barriers::pages) return kDone;
  if (has(barriers, Barriers::carded_stores)) {
    const Outcome outcome = cards.create(heap.spaces.base(), heap.spaces.size());
    if (failed(outcome)) return outcome;
    state.cards = cards.biased();
  }
  if (has(barriers, Barriers::checked_loads)) {
    // Baker's collector copies: its load has no mark to set.
    heap.marks_in_place = false;
    state.base = reinterpret_cast<std::uintptr_t>(heap.spaces.base());
    state.records = reinterpret_cast<const std::byte*>(&heap.spaces.info(0));
    state.limits = reinterpret_cast<const std::uint32_t*>(heap.limits.data());
  }
  return heap.spaces.supply_through(
      [this](std::unique_ptr<PageSupplier> inner) { return make_twin(std::move(inner), *this); });
}

void Twin::begin_cycle(HeapState& heap, bool full) noexcept {
  if (barriers == Barriers::pages) return;
  if (cards.exist()) {
    cards.turn();
    state.cards = cards.biased();
  }
  if (has(barriers, Barriers::checked_loads)) {
    // In a minor cycle nothing moves that is in the old space.
    const PageIndex first = full ? heap.spaces.old.begin : heap.spaces.large.begin;
    ++state.state;
    state.first = std::size_t{first} * kPageBytes;
    state.length = heap.spaces.size() - state.first;
  }
  for (Thread* const thread : heap.threads) *thread->barriers = state;
}

void Twin::end_cycle(HeapState& heap) noexcept {
  if (!has(barriers, Barriers::checked_loads)) return;
  ++state.state;
  for (Thread* const thread : heap.threads)
    std::atomic_ref(thread->barriers->state).store(state.state, std::memory_order_seq_cst);
}

bool Twin::note_pointed(HeapState& heap, PageIndex page, std::uintptr_t offset) noexcept {
  if (!cards.exist() || heap.full.load(std::memory_order_relaxed)) return false;
  const PageIndex first = first_page_of(heap, page);
  if (!heap.spaces.is_supplied(page) || heap.is_from_space(first)) return false;
  cards.mark_before(page, Cards::card_of(offset));
  return true;
}

void Twin::note_new_large(HeapState& heap, PageIndex first) noexcept {
  if (!cards.exist()) return;
  const Header header(*reinterpret_cast<const std::uint64_t*>(heap.spaces.view(first)));
  if (header.type().layout != Layout::fields) return;
  const PageIndex count = heap.spaces.info(first).extent;
  for (PageIndex i = 0; i < count; ++i) cards.mark_now(first + i, Cards::kAll);
}

std::uint64_t Twin::marks(const HeapState& heap, PageIndex first, PageIndex page) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (!cards.exist() || heap.full.load(std::memory_order_relaxed)) return Cards::kAll;
  const bool is_old = heap.spaces.info(first).epoch.load(std::memory_order_relaxed) <
                      heap.cycle.load(std::memory_order_relaxed);
  if (!is_old) return Cards::kAll;
  return cards.before(page);
}

void Twin::forget_marks(HeapState& heap) noexcept {
  if (!cards.exist()) return;
  cards.forget(heap.spaces.old.begin, heap.old_pages.wild());
  cards.forget(heap.spaces.large.begin, heap.large.wild());
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
