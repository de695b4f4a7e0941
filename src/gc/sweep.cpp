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
  /// The same, in falling order.
  void add_before(PageIndex page) noexcept {
    if (run_.size() == 0 || page + 1 != run_.begin) {
      flush();
      run_ = {page + 1, page + 1};
    }
    --run_.begin;
  }

 private:
  // Large objects expect zeroes.
  void flush() noexcept {
    if (run_.size() == 0) return;
    const PageRange range = heap_.spaces.range(run_.begin, run_.size());
    insist("memory cannot be given back", [&] {
      if (heap_.spaces.is_supplied(run_.begin)) return heap_.spaces.supplier().drop(range);
      const int error = sys::advise(range, MADV_DONTNEED);
      return error == 0 ? kDone : Error{"MADV_DONTNEED", error, range};
    });
    run_ = {};
  }
  HeapState& heap_;
  PageSpan run_;
};

// Backwards: what is taken next is in the order of addresses.
//
// Pages beyond what the nursery needs now give their memory back.
void sweep_nursery(HeapState& heap) noexcept {
  const std::size_t budget = heap.nursery_budget.load(std::memory_order_relaxed);
  const std::size_t needed = heap.spaces.nursery.begin + 3 * budget;
  const std::lock_guard guard(heap.nursery_lock);
  Dropping dropping(heap);
  for (PageIndex page = heap.nursery_wild; page-- > heap.spaces.nursery.begin;) {
    PageInfo& info = heap.spaces.info(page);
    if (info.kind.load(std::memory_order_relaxed) != PageKind::young || !heap.is_from_space(page))
      continue;
    info.kind.store(PageKind::free, std::memory_order_release);
    heap.nursery_free.push(page + 1);
    heap.nursery_in_use.fetch_sub(1, std::memory_order_relaxed);
    if (page >= needed) dropping.add_before(page);
  }
}

// In place of dead objects, so that nobody follows what they refer to.
constexpr detail::Type kDead{detail::Layout::leaf, 0, nullptr, nullptr};

/// Pages that a full cycle has left in place and that have something alive: what is dead in them is
/// overwritten, and they are opened, a run at a time.
class Settling {
 public:
  explicit Settling(HeapState& heap) noexcept : heap_(heap) {}
  ~Settling() { flush(); }
  Settling(const Settling&) = delete;
  Settling& operator=(const Settling&) = delete;

  void add(PageIndex page) noexcept {
    if (run_.end != page || run_.size() == kTogether) {
      flush();
      run_ = {page, page};
    }
    ++run_.end;
  }

 private:
  static constexpr std::size_t kTogether = 512;

  // Opened first: where the view is a copy, what is written there afterwards would be lost.
  void flush() noexcept {
    if (run_.size() == 0) return;
    if (heap_.spaces.is_supplied(run_.begin))
      open_run(heap_, run_.begin, static_cast<PageIndex>(run_.size()), Opened::scanned);
    for (PageIndex page = run_.begin; page < run_.end; ++page) settle(page);
    run_ = {};
  }

  void settle(PageIndex page) noexcept {
    PageInfo& info = heap_.spaces.info(page);
    const std::uint32_t fill = info.fill.load(std::memory_order_relaxed) & ~PageInfo::kClosed;
    std::byte* const start = heap_.spaces.supplier().view_is_memory() ? heap_.spaces.view(page)
                                                                      : heap_.spaces.address(page);
    std::uint32_t alive = 0;
    std::uint32_t dead = 0;  // before `at`, in a row
    for (std::uint32_t at = 0; at < fill;) {
      const auto size = static_cast<std::uint32_t>(
          detail::Header(*reinterpret_cast<const std::uint64_t*>(start + at)).size_bytes());
      if (heap_.marks.is_marked(page, at)) {
        bury(start + at - dead, dead);
        dead = 0;
        alive += size;
      } else {
        dead += size;
      }
      at += size;
    }
    bury(start + fill - dead, dead);
    heap_.marks.clear(page);
    const bool is_leaf = !heap_.spaces.is_supplied(page);
    if (2 * alive >= fill) return;
    // From-space of the next full cycle, and not of this one.
    info.epoch.store(heap_.report.number, std::memory_order_relaxed);
    info.kind.store(is_leaf ? PageKind::sparse_leaf : PageKind::sparse, std::memory_order_release);
  }
  static void bury(std::byte* start, std::uint32_t size) noexcept {
    if (size != 0) new (start) detail::Header(kDead, size);
  }

  HeapState& heap_;
  PageSpan run_;
};

void sweep_survivors(HeapState& heap, FreePages& pages) noexcept {
  pages.forget_taken();
  const std::size_t keep = pages_to_keep(heap);
  Dropping dropping(heap);
  Settling settling(heap);
  for (PageIndex page = pages.span().begin; page < pages.wild(); ++page) {
    PageInfo& info = heap.spaces.info(page);
    if (info.kind.load(std::memory_order_relaxed) == PageKind::free) continue;
    const bool in_place = heap.is_marked_in_place(page);
    if (in_place && heap.marks.has_any(page)) {
      settling.add(page);
      continue;
    }
    if (!in_place && !heap.is_from_space(page)) {
      heap.marks.clear(page);  // it was marked before it was kept as a whole
      continue;
    }
    info.kind.store(PageKind::free, std::memory_order_release);
    if (pages.listed() >= keep) {
      dropping.add(page);
    } else if (heap.spaces.is_supplied(page) &&
               info.opened.load(std::memory_order_relaxed) == heap.report.number) {
      // A destructor has looked at something in it. What is copied into it next is not open yet.
      insist("a page of the old space cannot be closed",
             [&] { return heap.spaces.supplier().close(heap.spaces.range(page, 1)); });
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
  open_refused(heap);
  insist("what a cycle left behind cannot be dropped",
         [&] { return heap.spaces.supplier().settle(); });
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
