#include "gc/collector.hpp"

#include <algorithm>
#include <array>
#include <system_error>

#include "gc/scan.hpp"
#include "gc/stop.hpp"
#include "gc/traced.hpp"
#include "sys/company.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/no_signals.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

constexpr PageIndex kPart = 2048;     // pages that are looked at together: 8 MiB
constexpr PageIndex kTogether = 64;   // scanned pages that are opened in one call
constexpr PageIndex kCleanRun = 512;  // clean ones

std::uint32_t cycle_of(const HeapState& heap) noexcept {
  return heap.cycle.load(std::memory_order_relaxed);
}

}  // namespace

void open_run(HeapState& heap, PageIndex first, PageIndex count, Opened how) noexcept {
  // What is refused stays closed: its trap opens it, or the end of the cycle.
  if (failed(heap.spaces.supplier().open(heap.spaces.range(first, count), true)))
    return heap.refused.store(true, std::memory_order_relaxed);
  for (PageIndex page = first; page < first + count; ++page)
    heap.spaces.info(page).opened.store(cycle_of(heap), std::memory_order_relaxed);
  note_opened(heap, first, count, how);
}

namespace {

// RACE a buffer that its owner has just taken may be closed before anything is copied to it: then
// nothing ever is, and there may be no memory that could be opened.
bool is_empty(const HeapState& heap, PageIndex page) noexcept {
  return (heap.spaces.info(page).fill.load(std::memory_order_acquire) & ~PageInfo::kClosed) == 0;
}

// Pages that the last cycle left, and this one has neither moved nor opened, nor to scan already.
// Clean ones may be opened as they are.
bool is_left(const HeapState& heap, PageIndex page) noexcept {
  const PageIndex first = first_page_of(heap, page);
  const PageInfo& head = heap.spaces.info(first);
  const PageKind kind = head.kind.load(std::memory_order_acquire);
  if (!is_old(kind) && kind != PageKind::large) return false;
  const PageInfo& info = heap.spaces.info(page);
  return head.epoch.load(std::memory_order_acquire) < cycle_of(heap) && !is_empty(heap, page) &&
         info.opened.load(std::memory_order_relaxed) != cycle_of(heap) &&
         info.due.load(std::memory_order_relaxed) != cycle_of(heap);
}

void open_clean(HeapState& heap, PageIndex begin, PageIndex end) noexcept {
  for (PageIndex page = begin; page < end;) {
    if (!is_left(heap, page)) {
      ++page;
      continue;
    }
    PageIndex last = page;
    while (last < end && last - page < kCleanRun && is_left(heap, last)) ++last;
    open_run(heap, page, last - page, Opened::clean);
    heap.report.opened_pages += last - page;
    page = last;
  }
}

// Found beside the program, that a page was written is not found again: what it was written since
// its scan, if it has had one, is the next flip's affair.
void keep_written(HeapState& heap, PageIndex page) noexcept {
  if (!heap.spaces.supplier().finds_later() || heap.twin.cards.exist()) return;
  const PageKind kind =
      heap.spaces.info(first_page_of(heap, page)).kind.load(std::memory_order_acquire);
  if (kind == PageKind::old || kind == PageKind::large) remember(heap, page);
}

void queue_dirty(HeapState& heap, PageIndex begin, PageIndex end) noexcept {
  for (PageIndex page = begin; page < end; ++page) {
    if (!is_left(heap, page)) {
      keep_written(heap, page);
      continue;
    }
    heap.queue.push(page);
    ++heap.report.dirty_pages;
  }
}

// RACE a page that a trap has scanned and opened meanwhile is not scanned again, nor opened; it may
// have been written since, which the next flip finds.
void discover_part(HeapState& heap, PageIndex begin, PageIndex end) noexcept {
  std::array<PageRange, kPart / 2 + 1> runs;
  const PageRange part = heap.spaces.range(begin, end - begin);
  const auto found = heap.spaces.supplier().written(part, runs);
  if (!found) {
    // Whatever may have been written is scanned.
    queue_dirty(heap, begin, end);
    return;
  }
  PageIndex next = begin;
  for (std::size_t i = 0; i < *found; ++i) {
    const auto first = static_cast<PageIndex>((runs[i].base - heap.spaces.base()) /
                                              static_cast<std::ptrdiff_t>(kPageBytes));
    const auto last = first + static_cast<PageIndex>(runs[i].length.count());
    open_clean(heap, next, first);
    queue_dirty(heap, first, last);
    next = last;
  }
  open_clean(heap, next, end);
}

void discover(HeapState& heap) noexcept {
  const PageIndex old_end = heap.old_pages.wild();
  if (heap.discovered >= old_end && heap.discovered < heap.spaces.large.begin)
    heap.discovered = heap.spaces.large.begin;
  const PageIndex end = heap.discovered < old_end ? old_end : heap.large.wild();
  if (heap.discovered >= end) {
    heap.stage.store(Stage::drain, std::memory_order_release);
    return;
  }
  const PageIndex part_end = std::min(end, heap.discovered + kPart);
  discover_part(heap, heap.discovered, part_end);
  heap.discovered = part_end;
}

void flush_opening(HeapState& heap, Worker& worker) noexcept {
  if (worker.opening.size() != 0)
    open_run(heap, worker.opening.begin, static_cast<PageIndex>(worker.opening.size()),
             Opened::scanned);
  worker.opening = {};
}

void open_soon(HeapState& heap, Worker& worker, PageIndex page) noexcept {
  if (is_empty(heap, page)) return;
  if (heap.spaces.info(page).opened.load(std::memory_order_relaxed) == cycle_of(heap)) return;
  if (worker.opening.end != page || worker.opening.size() == kTogether) {
    flush_opening(heap, worker);
    worker.opening = {page, page};
  }
  ++worker.opening.end;
}

void scan_queued(HeapState& heap, Worker& worker, PageIndex queued) noexcept {
  const PageIndex first = queued & ~ScanQueue::kWholeObject;
  const PageIndex count =
      (queued & ScanQueue::kWholeObject) != 0 ? heap.spaces.info(first).extent : 1;
  for (PageIndex page = first; page < first + count; ++page) {
    if (heap.is_marked_in_place(page)) {
      scan_marked(heap, worker, page);
      continue;
    }
    // RACE a trap may keep it as a whole just now, and scans it: so does this then.
    heap.spaces.info(page).queued.store(false, std::memory_order_seq_cst);
    scan_page(heap, worker, page);
    open_soon(heap, worker, page);
  }
}

// Its own buffer first, while it is in the cache. False: there is nothing to do.
bool scan_some(HeapState& heap, Worker& worker) noexcept {
  if (scan_own_buffer(heap, worker)) return true;
  const PageIndex queued = heap.queue.pop();
  if (queued == kNoPage) return false;
  scan_queued(heap, worker, queued);
  return true;
}

void drain(HeapState& heap) noexcept {
  if (!scan_some(heap, heap.collector.worker))
    heap.stage.store(Stage::finish, std::memory_order_seq_cst);
}

bool has_work(HeapState& heap) noexcept {
  bool found = !heap.queue.empty();
  heap.for_each_worker(
      [&](const Worker& worker) { found |= open_buffer_of(heap, worker) != kNoPage; });
  return found;
}

// Buffers of threads that had a trap, and of collectors, are scanned where they are.
void scan_buffers(HeapState& heap) noexcept {
  heap.for_each_worker([&](const Worker& worker) {
    const PageIndex page = open_buffer_of(heap, worker);
    if (page == kNoPage) return;
    scan_page(heap, heap.collector.worker, page);
    open_soon(heap, heap.collector.worker, page);
  });
}

void clear_weaks(HeapState& heap) noexcept {
  heap.weaks.for_each([&](void*& word) {
    word = reinterpret_cast<void*>(forwarded(heap, reinterpret_cast<std::uintptr_t>(word)));
  });
}

// Objects with a destructor: those that are dead wait for the sweep.
void find_dying(HeapState& heap) noexcept {
  const std::lock_guard guard(heap.destroy_lock);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < heap.to_destroy.size(); ++i) {
    const std::uint64_t object = heap.to_destroy.at(i);
    const std::uint64_t now = forwarded(heap, object);
    if (now == 0) {
      heap.dying.push(object);
    } else {
      heap.to_destroy.set(kept++, now);
    }
  }
  heap.to_destroy.shrink(kept);
}

void count_workers(HeapState& heap) noexcept {
  heap.for_each_worker([&](Worker& worker) {
    heap.report.traps += worker.traps.exchange(0, std::memory_order_relaxed);
    heap.report.copied_bytes += worker.copied_bytes.exchange(0, std::memory_order_relaxed);
    heap.report.scanned_pages += worker.scanned_pages.exchange(0, std::memory_order_relaxed);
  });
}

// False: a trap is still scanning.
//
// RACE a trap may copy, and may begin at any time: the cycle ends only if none is scanning, and
// none has come since the look for work. And nobody may copy by asking for a weak reference: its
// lock.
//
// `paused`: all threads stand still, and this one has their lock.
bool end_scanning(HeapState& heap, bool paused) noexcept {
  std::unique_lock threads(heap.threads_lock, std::defer_lock);
  if (!paused) threads.lock();
  const std::lock_guard weaks(heap.weaks.lock);
  const Scanning::Moment moment = heap.scanning.now();
  if (has_work(heap)) {
    scan_buffers(heap);
    heap.stage.store(Stage::drain, std::memory_order_release);
    return true;
  }
  if (!Scanning::is_quiet(moment) || !heap.scanning.end(moment)) return false;
  clear_weaks(heap);
  find_dying(heap);
  count_workers(heap);
  heap.twin.end_cycle(heap);
  heap.stage.store(Stage::sweep, std::memory_order_release);
  return true;
}

// Nothing seems left.
//
// RACE a helper has taken something from the queue: it counts itself in before it looks whether
// there is still something to scan.
void finish(HeapState& heap, bool paused) noexcept {
  flush_opening(heap, heap.collector.worker);
  if (heap.helpers.load(std::memory_order_seq_cst) != 0 || !end_scanning(heap, paused))
    sys::yield();
}

}  // namespace

// A supply may drop its own way to them when the cycle is over.
void open_refused(HeapState& heap) noexcept {
  if (!heap.refused.exchange(false, std::memory_order_relaxed)) return;
  const auto open_all = [&](PageIndex begin, PageIndex end) {
    for (PageIndex page = begin; page < end; ++page) {
      const PageInfo& head = heap.spaces.info(first_page_of(heap, page));
      const PageInfo& info = heap.spaces.info(page);
      if (head.kind.load() == PageKind::free || is_empty(heap, page) || !was_closed(heap, page) ||
          info.opened.load() == cycle_of(heap) || heap.is_from_space(first_page_of(heap, page)))
        continue;
      insist("a page of the old space cannot be opened",
             [&] { return heap.spaces.supplier().open(heap.spaces.range(page, 1), true); });
      note_opened(heap, page, 1, Opened::scanned);
    }
  };
  open_all(heap.spaces.old.begin, heap.old_pages.wild());
  open_all(heap.spaces.large.begin, heap.large.wild());
}

namespace {

// What a minor cycle costs grows with the old pages that were written since the last one, and fewer
// cycles find fewer of them twice. Doubled and halved, between the option and a share of what is
// alive.
void adapt_nursery(HeapState& heap) noexcept {
  if (heap.report.full) return;
  const std::size_t smallest = heap.options.nursery_bytes / kPageBytes;
  const std::size_t limit = heap.options.limit_bytes / kPageBytes;
  const std::size_t old = heap.old_used();
  const auto share =
      static_cast<std::size_t>(static_cast<double>(old) * heap.options.nursery_growth);
  const std::size_t room = old < limit ? (limit - old) / 3 : 0;
  const std::size_t most =
      std::max(smallest, std::min({share, room, heap.spaces.nursery.size() / 4}));
  std::size_t budget = heap.nursery_budget.load(std::memory_order_relaxed);
  if (heap.report.dirty_pages > budget) budget *= 2;
  if (heap.report.dirty_pages < budget / 4) budget /= 2;
  heap.nursery_budget.store(std::clamp(budget, smallest, most), std::memory_order_relaxed);
}

void end_cycle(HeapState& heap) noexcept {
  adapt_nursery(heap);
  const std::uint64_t now = sys::monotonic_nanoseconds();
  heap.report.total_us = static_cast<double>(now - heap.flipped_at) / 1000;
  {
    const std::lock_guard guard(heap.statistics_lock);
    Statistics& all = heap.statistics;
    ++all.cycles;
    all.full_cycles += heap.report.full ? 1 : 0;
    all.traps += heap.report.traps;
    all.pins += heap.report.pins;
    all.copied_bytes += heap.report.copied_bytes;
    all.pauses_us += heap.report.pause_us;
    all.longest_pause_us = std::max(all.longest_pause_us, heap.report.pause_us);
  }
  note_cycle(heap);
  if (heap.options.on_cycle != nullptr)
    heap.options.on_cycle(heap.options.on_cycle_self, heap.report);
  // RACE the next flip may begin when the stage says so, and has a report of its own.
  const std::uint32_t number = heap.report.number;
  heap.stage.store(Stage::idle, std::memory_order_release);
  heap.ended.store(number, std::memory_order_release);
  sys::futex_wake_all(heap.ended);
}

}  // namespace

bool step(HeapState& heap) noexcept {
  switch (heap.stage.load(std::memory_order_acquire)) {
    case Stage::idle:
      return false;
    case Stage::discover:
      discover(heap);
      break;
    case Stage::drain:
      drain(heap);
      break;
    case Stage::finish:
      finish(heap, false);
      break;
    case Stage::sweep:
      sweep(heap);
      heap.queue.clear();
      end_cycle(heap);
      return false;
  }
  return true;
}

void help(HeapState& heap, Thread* self) noexcept {
  {
    const Critical critical(self);
    const std::unique_lock guard(heap.collector_lock, std::try_to_lock);
    if (guard.owns_lock()) {
      step(heap);
      return;
    }
  }
  sys::yield();
}

bool help_scanning(HeapState& heap, Thread& self, unsigned pages) noexcept {
  const Critical critical(&self);
  heap.helpers.fetch_add(1, std::memory_order_seq_cst);
  bool found = true;
  for (; pages > 0 && found; --pages) {
    const Stage stage = heap.stage.load(std::memory_order_seq_cst);
    found = (stage == Stage::discover || stage == Stage::drain) && scan_some(heap, self.worker);
  }
  flush_opening(heap, self.worker);
  heap.helpers.fetch_sub(1, std::memory_order_seq_cst);
  return found;
}

void scan_all_in_pause(HeapState& heap) noexcept {
  for (;;) {
    const Stage stage = heap.stage.load(std::memory_order_relaxed);
    if (stage == Stage::sweep) return;
    if (stage == Stage::discover) discover(heap);
    if (stage == Stage::drain) drain(heap);
    if (stage == Stage::finish) finish(heap, true);
  }
}

namespace {

// Between cycles it sleeps. False: the heap ends.
bool wait_for_cycle(HeapState& heap) noexcept {
  for (;;) {
    if (heap.ending.load(std::memory_order_acquire)) return false;
    const std::uint32_t begun = heap.begun.load(std::memory_order_acquire);
    if (heap.ended.load(std::memory_order_acquire) != begun) return true;
    sys::futex_wait(heap.begun, begun);
  }
}

void serve(HeapState& heap) noexcept {
  const sys::OwnThread own;
  sys::this_thread().collected = &heap.collector;
  heap.collector.id = sys::thread_id();
  while (wait_for_cycle(heap)) {
    const std::lock_guard guard(heap.collector_lock);
    while (step(heap)) {
    }
  }
}

// Scans, and nothing else. What it finds nothing to do in is a moment, mostly, or the cycle's end.
void assist(HeapState& heap, Thread& self) noexcept {
  constexpr unsigned kPages = 16;
  constexpr std::uint64_t kMoment = 100'000;  // ns
  const sys::OwnThread own;
  sys::this_thread().collected = &self;
  self.id = sys::thread_id();
  while (wait_for_cycle(heap)) {
    const std::uint32_t ended = heap.ended.load(std::memory_order_acquire);
    if (!help_scanning(heap, self, kPages)) sys::futex_wait(heap.ended, ended, kMoment);
  }
}

}  // namespace

// They take no signals of the program's: what their handlers do is not for these threads.
Outcome start_collectors(HeapState& heap) {
  const NoSignals none;
  try {
    heap.collector_threads.reserve(1 + heap.assistants.size());
    heap.collector_threads.emplace_back([&heap] { serve(heap); });
    for (const auto& assistant : heap.assistants)
      heap.collector_threads.emplace_back([&heap, self = assistant.get()] { assist(heap, *self); });
  } catch (const std::system_error& refused) {
    // One is enough.
    if (heap.collector_threads.empty())
      return Error{"pthread_create of the collector", refused.code().value()};
  }
  return kDone;
}

// They sleep on `begun`, and look at `ending` when that changes.
void end_collectors(HeapState& heap) noexcept {
  heap.ending.store(true, std::memory_order_release);
  heap.begun.fetch_add(1, std::memory_order_release);
  sys::futex_wake_all(heap.begun);
  for (std::thread& thread : heap.collector_threads) thread.join();
  heap.collector_threads.clear();
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
