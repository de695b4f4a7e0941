// Strength::alias: after Dhurjati & Adve (DSN 2006) and Oscar (USENIX Security 2017), with views of
// 512 pages in place of a mapping for each block.
#include <sys/mman.h>

#include <array>
#include <string_view>

#include "guard/engine/engine.hpp"
#include "sys/filter.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

// A view of an extent that has fewer unused blocks than this would be mostly empty.
constexpr std::uint32_t kWorthAView = 8;  // an eighth
constexpr int kExtentsInTurn = 16;
// Making an extent huge costs as much as so many views of single pages.
constexpr std::uint32_t kViewsBeforeHuge = 8;

}  // namespace

View& Engine::view_of(std::size_t slot) const noexcept { return views_[slot / kExtentPages]; }

// Of the thread's list, which it leaves; full ones leave it, too.
Extent* Engine::extent_with_room(ViewCursor& cursor, unsigned unit) noexcept {
  if (cursor.extents == nullptr) cursor.extents = frames_.take_returned(unit);
  while (Extent* const first = cursor.extents) {
    cursor.extents = first->next;
    if (first->unused.load(std::memory_order_relaxed) > first->capacity() / kWorthAView)
      return first;
    frames_.unlist(*first);
    if (cursor.extents == nullptr) cursor.extents = frames_.take_returned(unit);
  }
  return nullptr;
}

bool Engine::open_view(ThreadCache& cache, unsigned unit) noexcept {
  ViewCursor& cursor = cache.views.cursors[unit];
  Extent* chosen = extent_with_room(cursor, unit);
  if (chosen == nullptr) chosen = frames_.new_extent(unit);
  if (chosen == nullptr) return false;
  // Behind the others, so that those that views are opened of change.
  Extent** last = &cursor.extents;
  for (int steps = 0; *last != nullptr && steps < kExtentsInTurn; ++steps) last = &(*last)->next;
  chosen->next = *last;
  *last = chosen;

  ThreadCache::Cursor chunk;
  if (!pages_.count_mapping(1)) return false;
  if (!next_chunk(kViews, chunk)) return false;
  auto* const start = reinterpret_cast<std::byte*>(layout_.start(kViews, chunk.next));
  View& view = view_of(chunk.next);
  if (!frames_.map(*chosen, start)) {
    chunks_[layout_.chunk_of(start)].store(0, std::memory_order_release);
    return false;
  }
  // Not where views lose single pages: they would be split again.
  if (options_.revocation == Revocation::lazy && !chosen->is_huge &&
      chosen->pages == kExtentPages && chosen->used_up != 0 &&
      chosen->used_up % kViewsBeforeHuge == 0)
    frames_.collapse(*chosen, start);
  view.extent = chosen;
  view.alive.store(1, std::memory_order_release);
  cursor.view = &view;
  cursor.first = chunk.next;
  cursor.next = 0;
  return true;
}

bool Engine::take_shared(ThreadCache& cache, std::size_t size, std::size_t& number,
                         std::size_t& offset) noexcept {
  const unsigned unit = unit_for(size);
  ViewCursor& cursor = cache.views.cursors[unit];
  for (;;) {
    if (cursor.view == nullptr && !open_view(cache, unit)) return false;
    unsigned block = 0;
    const std::size_t pages = cursor.view->extent->pages;
    while (cursor.next < pages && !cursor.view->extent->take(cursor.next, block)) ++cursor.next;
    if (cursor.next < pages) {
      number = cursor.first + cursor.next++;
      offset = block * unit_bytes(unit);
      cursor.view->alive.fetch_add(1, std::memory_order_relaxed);
      return true;
    }
    cursor.view->extent->used_up += 1;
    View& full = *cursor.view;
    cursor.view = nullptr;
    view_lost_one(full, cursor.first);
  }
}

void Engine::view_lost_one(View& view, std::size_t slot) noexcept {
  if (view.alive.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const std::size_t first = slot / kExtentPages * kExtentPages;
  const std::size_t chunk =
      layout_.chunk_of(reinterpret_cast<const void*>(layout_.start(kViews, first)));
  // One call for 512 pages of addresses.
  retire_view(chunk);
}

void Engine::revoke(const Pending* dead, std::size_t count) noexcept {
  std::array<PageRange, kBatch> pages;
  std::size_t open = 0;
  for (std::size_t i = 0; i < count; ++i) {
    // The last one of a view goes with it.
    if (view_of(dead[i].slot).alive.load(std::memory_order_acquire) == 1) continue;
    pages[open++] = page_of(reinterpret_cast<const void*>(layout_.start(kViews, dead[i].slot)));
  }
  if (open != 0 && has_markers_) {
    static_cast<void>(sys::guard_all({pages.data(), open}));
  } else {
    for (std::size_t i = 0; i < open; ++i)
      if (pages_.count_mapping(1)) static_cast<void>(sys::change_protection(pages[i], PROT_NONE));
  }
  for (std::size_t i = 0; i < count; ++i) {
    View& view = view_of(dead[i].slot);
    Extent& extent = *view.extent;
    view_lost_one(view, dead[i].slot);
    frames_.give_back(extent, dead[i].slot % kExtentPages, dead[i].block);
  }
}

void Engine::close_shared(ThreadCache* cache, std::size_t number, std::size_t offset) noexcept {
  View& view = view_of(number);
  const Pending dead{number, static_cast<unsigned>(offset / unit_bytes(view.extent->unit))};
  if (options_.revocation == Revocation::lazy) {
    Extent& extent = *view.extent;
    view_lost_one(view, number);
    frames_.give_back(extent, number % kExtentPages, dead.block);
    return;
  }
  if (options_.revocation == Revocation::at_once || cache == nullptr) return revoke(&dead, 1);
  ThreadViews& mine = cache->views;
  mine.pending[mine.pending_count++] = dead;
  if (mine.pending_count < kBatch) return;
  revoke(mine.pending.data(), mine.pending_count);
  mine.pending_count = 0;
}

// Every view shows the parent's frames, or would; and markers go with the mappings.
void Engine::views_in_child() noexcept {
  if (!frames_.take_copy()) {
    constexpr std::string_view kWords =
        "pagetrap: guard: no memory for a fork()ed child's copy of the heap: it cannot go on\n";
    static_cast<void>(sys::write_all(2, kWords.data(), kWords.size()));
    sys::end_process(1);
  }
  std::array<PageRange, kBatch> dead;
  std::size_t count = 0;
  const std::size_t made = next_chunk_[kViews].load();
  const std::size_t chunks = layout_.slots(kViews) / kExtentPages;
  for (std::size_t i = 0; i < made && i < chunks; ++i) {
    const std::size_t first = (made - 1 - i) % chunks * kExtentPages;
    const View& view = view_of(first);
    if (view.alive.load() == 0) continue;
    view.extent->is_huge = false;  // the copy is of single pages
    static_cast<void>(
        frames_.map(*view.extent, reinterpret_cast<std::byte*>(layout_.start(kViews, first))));
    if (options_.revocation == Revocation::lazy || !has_markers_) continue;
    for (std::size_t page = 0; page < view.extent->pages; ++page) {
      if (slot(kViews, first + page).read().state() != SlotState::freed) continue;
      dead[count++] = page_of(reinterpret_cast<const void*>(layout_.start(kViews, first + page)));
      if (count < kBatch) continue;
      static_cast<void>(sys::guard_all({dead.data(), count}));
      count = 0;
    }
  }
  static_cast<void>(sys::guard_all({dead.data(), count}));
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
