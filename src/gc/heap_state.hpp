// HeapState: all of a heap. What traps read is atomic, or constant once the heap is there.
#pragma once

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <pagetrap/gc/heap.hpp>

#include "gc/large.hpp"
#include "gc/marks.hpp"
#include "gc/page.hpp"
#include "gc/pile.hpp"
#include "gc/scanning.hpp"
#include "gc/slots.hpp"
#include "gc/spaces.hpp"
#include "gc/thread.hpp"
#include "gc/twin.hpp"
#include "gc/worker.hpp"
#include "sys/signal_safe_calls.hpp"

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

  // --- the cycle, as traps see it. Changes while all threads are stopped; `scanning` ends later.
  std::atomic<std::uint32_t> cycle{1};  // 0 is of pages that were never used
  Scanning scanning;
  std::atomic<bool> full{false};
  /// A page is from-space if its epoch is less than its kind's.
  std::array<std::atomic<std::uint32_t>, kPageKinds> limits{};

  Twin twin;  // barriers in instructions, if there are any

  FreePages old_pages;
  FreePages leaf_pages;
  ScanQueue queue;
  Marks marks;
  bool marks_in_place = true;  // or full cycles copy all that is alive; constant once it is there
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
  std::atomic<std::size_t> nursery_budget{0};  // pages between two cycles

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
  std::atomic<bool> refused{false};       // a page stayed closed: the end of the cycle tries again
  std::atomic<std::uint32_t> ended{1};    // futex word: the last cycle that is over
  std::atomic<std::uint32_t> begun{1};    // futex word: the last cycle that began
  std::atomic<bool> ending{false};        // the heap
  Thread collector;
  std::vector<std::unique_ptr<Thread>> assistants;  // further ones, which scan and nothing else
  std::vector<std::thread> collector_threads;
  PageIndex discovered = 0;
  bool lifted = false;        // the cycle's flip has closed the whole old space
  std::size_t old_alive = 0;  // pages, after the last full cycle

  // --- fork()
  bool forkable = false;                     // the child will have a heap
  std::atomic<bool> closed{false};           // this is a child that has none
  std::atomic<bool> collectors_gone{false};  // this is a child: its first cycle starts them

  // --- reports
  Cycle report;
  std::uint64_t flipped_at = 0;
  mutable std::mutex statistics_lock;
  Statistics statistics;  // GUARDED_BY(statistics_lock)

  /// All that may have a buffer. Has threads_lock.
  template <class Visit>
  void for_each_worker(Visit visit) {
    visit(collector.worker);
    for (const auto& assistant : assistants) visit(assistant->worker);
    for (Thread* const thread : threads) visit(thread->worker);
  }
  [[nodiscard]] std::size_t used_pages() const noexcept {
    return nursery_in_use.load(std::memory_order_relaxed) + old_pages.in_use() +
           leaf_pages.in_use() + large.pages() + large_leaf.pages();
  }
  [[nodiscard]] std::size_t old_used() const noexcept {
    return old_pages.in_use() + leaf_pages.in_use() + large.pages() + large_leaf.pages();
  }
  /// Whether a full cycle leaves the page in place, and its objects are alive if something refers
  /// to them. A page that is pinned, or that a trap has scanned, is alive as a whole: its epoch.
  [[nodiscard]] bool is_marked_in_place(PageIndex page) const noexcept PAGETRAP_SIGNAL_SAFE {
    if (!full.load(std::memory_order_relaxed) || !marks_in_place) return false;
    const PageInfo& info = spaces.info(page);
    const PageKind kind = info.kind.load(std::memory_order_acquire);
    return (kind == PageKind::old || kind == PageKind::leaf) &&
           info.epoch.load(std::memory_order_acquire) < cycle.load(std::memory_order_relaxed);
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

/// For what cannot go on without: tries again for some seconds while the kernel has no memory
/// (somebody may give some back meanwhile), then gives up.
template <class Attempt>
void insist(const char* what, Attempt attempt) noexcept PAGETRAP_SIGNAL_SAFE {
  constexpr std::uint64_t kPatience = 5'000'000'000;  // ns
  std::uint64_t began = 0;
  for (Outcome outcome = attempt(); failed(outcome); outcome = attempt()) {
    const std::uint64_t now = sys::monotonic_nanoseconds();
    if (began == 0) began = now;
    const bool may_pass = outcome.number == ENOMEM || outcome.number == EAGAIN;
    if (!may_pass || now - began > kPatience) give_up(what, outcome.number);
    sys::yield();
  }
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
