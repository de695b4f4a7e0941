// HeapState: all of a heap. What traps read is atomic, or constant once the heap is there.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include <pagetrap/gc/heap.hpp>

#include "gc/large.hpp"
#include "gc/page.hpp"
#include "gc/pile.hpp"
#include "gc/slots.hpp"
#include "gc/spaces.hpp"
#include "gc/thread.hpp"
#include "gc/twin.hpp"
#include "gc/worker.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// What the collector does next.
enum class Stage : std::uint32_t {
  idle,      // no cycle: a flip may begin one
  discover,  // look for old pages that were written, open clean ones
  drain,     // scan what was copied
  finish,    // nothing seems left
  sweep,     // from-space is free again
};

struct HeapState {
  Options options;
  Spaces spaces;

  // --- the cycle, as traps see it. Changes while all threads are stopped; `active` ends later.
  std::atomic<std::uint32_t> cycle{1};  // 0 is of pages that were never used
  std::atomic<bool> active{false};      // between the flip and the last scan
  std::atomic<bool> full{false};
  /// A page is from-space if its epoch is less than its kind's.
  std::array<std::atomic<std::uint32_t>, kPageKinds> limits{};

  Twin twin;  // barriers in instructions, if there are any

  /// Counts pages that begin to be scanned or copied into: whoever ends a cycle sees that nothing
  /// of the kind has happened while it looked.
  std::atomic<std::uint64_t> activity{0};

  FreePages old_pages;
  FreePages leaf_pages;
  ScanQueue queue;
  /// Pages that refer to pinned young objects: of this cycle, for the next flip, and of the last.
  std::array<Pile<PageIndex>, 2> remembered;
  std::atomic<unsigned> remembered_now{0};
  Pile<PageIndex> pinned;     // in the flip
  Pile<PageIndex> new_large;  // large objects with references, made since the last flip

  // --- the nursery
  std::mutex nursery_lock;
  Pile<PageIndex> nursery_free;                // GUARDED_BY(nursery_lock): number and one
  PageIndex nursery_wild = 0;                  // GUARDED_BY(nursery_lock)
  std::atomic<std::size_t> nursery_taken{0};   // pages since the last flip
  std::atomic<std::size_t> nursery_in_use{0};  // pages

  LargeObjects large;
  LargeObjects large_leaf;

  // --- threads
  std::mutex threads_lock;                   // held by a flip
  std::vector<Thread*> threads;              // GUARDED_BY(threads_lock)
  std::atomic<std::uint32_t> stop_round{0};  // futex word; odd: threads are to stop
  std::atomic<std::uint32_t> parked{0};      // futex word: how many have

  // --- from outside
  Slots roots;
  Slots weaks;
  std::mutex destroy_lock;
  Pile<std::uint64_t> to_destroy;  // GUARDED_BY(destroy_lock): objects with destructors
  Pile<std::uint64_t> dying;       // of the sweep

  // --- the collector: one thread at a time, which has `collector_lock`
  std::mutex collector_lock;
  std::atomic<Stage> stage{Stage::idle};
  std::atomic<std::uint32_t> helpers{0};  // threads that scan for it, before they allocate more
  std::atomic<std::uint32_t> ended{1};    // futex word: the last cycle that is over
  std::atomic<std::uint32_t> begun{1};    // futex word: the last cycle that began
  std::atomic<bool> ending{false};        // the heap
  Thread collector;
  std::thread collector_thread;
  PageIndex discovered = 0;
  std::size_t old_alive = 0;  // pages, after the last full cycle

  // --- reports
  Cycle report;
  std::uint64_t flipped_at = 0;
  mutable std::mutex statistics_lock;
  Statistics statistics;  // GUARDED_BY(statistics_lock)

  [[nodiscard]] std::size_t used_pages() const noexcept {
    return nursery_in_use.load(std::memory_order_relaxed) + old_pages.in_use() +
           leaf_pages.in_use() + large.pages() + large_leaf.pages();
  }
  [[nodiscard]] std::size_t old_used() const noexcept {
    return old_pages.in_use() + leaf_pages.in_use() + large.pages() + large_leaf.pages();
  }
  [[nodiscard]] bool is_from_space(PageIndex page) const noexcept PAGETRAP_SIGNAL_SAFE {
    const PageInfo& info = spaces.info(page);
    const auto kind = static_cast<std::size_t>(info.kind.load(std::memory_order_acquire));
    return info.epoch.load(std::memory_order_acquire) <
           limits[kind].load(std::memory_order_relaxed);
  }
};

/// Prints what went wrong and ends the process: for what would otherwise be an object lost.
[[noreturn]] void give_up(const char* what, int error) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
