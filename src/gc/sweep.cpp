// From-space is free again.
#include <sys/mman.h>

#include "gc/collector.hpp"
#include "gc/scan.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

// Of freed pages these many keep their memory, for the next survivors.
std::size_t pages_to_keep(const HeapState& heap) noexcept {
  return heap.options.nursery_bytes / kPageBytes;
}

void destroy_dying(HeapState& heap) noexcept {
  const Critical critical(this_gc_thread());
  const DestructorCards cards(heap.twin);
  for (std::size_t i = 0; i < heap.dying.size(); ++i) {
    auto* const object = reinterpret_cast<std::byte*>(heap.dying.at(i));
    const std::uintptr_t offset = heap.spaces.offset(reinterpret_cast<std::uintptr_t>(object));
    const detail::Header header(*reinterpret_cast<const std::uint64_t*>(
        heap.spaces.view_at(offset) - detail::Header::kBytes));
    header.type().destroy(object);
  }
  if (heap.dying.size() != 0) {
    const std::lock_guard guard(heap.statistics_lock);
    heap.statistics.finalized += heap.dying.size();
  }
  heap.dying.clear();
}

// Backwards: what is taken next is in the order of addresses.
void sweep_nursery(HeapState& heap) noexcept {
  const std::lock_guard guard(heap.nursery_lock);
  for (PageIndex page = heap.nursery_wild; page-- > heap.spaces.nursery.begin;) {
    PageInfo& info = heap.spaces.info(page);
    if (info.kind.load(std::memory_order_relaxed) != PageKind::young || !heap.is_from_space(page))
      continue;
    info.kind.store(PageKind::free, std::memory_order_release);
    heap.nursery_free.push(page + 1);
    heap.nursery_in_use.fetch_sub(1, std::memory_order_relaxed);
  }
}

/// Gives memory back, a run at a time.
class Dropping {
 public:
  explicit Dropping(HeapState& heap) noexcept : heap_(heap) {}
  ~Dropping() { flush(); }
  Dropping(const Dropping&) = delete;
  Dropping& operator=(const Dropping&) = delete;

  void add(PageIndex page, std::size_t count = 1) noexcept {
    if (run_.end != page) {
      flush();
      run_ = {page, page};
    }
    run_.end += static_cast<PageIndex>(count);
  }

 private:
  // A refusal costs memory, and nothing else but for large objects, which expect zeroes.
  void flush() noexcept {
    if (run_.size() == 0) return;
    const PageRange range = heap_.spaces.range(run_.begin, run_.size());
    if (heap_.spaces.is_supplied(run_.begin)) {
      static_cast<void>(heap_.spaces.supplier().drop(range));
    } else {
      sys::advise(range, MADV_DONTNEED);
    }
    run_ = {};
  }
  HeapState& heap_;
  PageSpan run_;
};

void sweep_survivors(HeapState& heap, FreePages& pages) noexcept {
  pages.forget_taken();
  const std::size_t keep = pages_to_keep(heap);
  Dropping dropping(heap);
  for (PageIndex page = pages.span().begin; page < pages.wild(); ++page) {
    PageInfo& info = heap.spaces.info(page);
    if (!heap.is_from_space(page)) continue;
    info.kind.store(PageKind::free, std::memory_order_release);
    if (pages.listed() >= keep) {
      dropping.add(page);
    } else if (heap.spaces.is_supplied(page) &&
               info.opened.load(std::memory_order_relaxed) == heap.report.number) {
      // A destructor has looked at something in it. What is copied into it next is not open yet.
      if (failed(heap.spaces.supplier().close(heap.spaces.range(page, 1)))) continue;
    }
    pages.give(page);
  }
}

void sweep_large(HeapState& heap, LargeObjects& objects) {
  std::vector<std::pair<PageIndex, std::size_t>> dead;
  objects.sweep([&](PageIndex first) {
    if (!heap.is_from_space(first)) return false;
    dead.emplace_back(first, heap.spaces.info(first).extent);
    return true;
  });
  for (const auto& [first, count] : dead) {
    for (PageIndex page = first; page < first + count; ++page)
      heap.spaces.info(page).kind.store(PageKind::free, std::memory_order_release);
    { Dropping(heap).add(first, count); }
    objects.give(first, count);
  }
}

}  // namespace

// RACE a trap that has seen the cycle active may still be scanning: it finds nothing to copy, and
// has ended before pages are used again.
void sweep(HeapState& heap) noexcept {
  heap.spaces.supplier().quiesce();
  destroy_dying(heap);
  sweep_nursery(heap);
  sweep_large(heap, heap.large);
  sweep_large(heap, heap.large_leaf);
  if (heap.report.full) {
    sweep_survivors(heap, heap.old_pages);
    sweep_survivors(heap, heap.leaf_pages);
    heap.old_alive = heap.old_used();
  }
  heap.twin.forget_marks(heap);
  // A window that cannot be dropped costs addresses until the next flip.
  static_cast<void>(heap.spaces.supplier().settle());
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
