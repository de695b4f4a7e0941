#include "gc/flip.hpp"

#include <array>
#include <cerrno>
#include <span>

#include "gc/collector.hpp"
#include "gc/scan.hpp"
#include "gc/stop.hpp"
#include "gc/traced.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

double microseconds(std::uint64_t from, std::uint64_t to) noexcept {
  return static_cast<double>(to - from) / 1000;
}

/// One flip. Nothing in it calls malloc: a thread may stand still with its lock.
class Flip {
 public:
  Flip(HeapState& heap, Thread* self, bool full) noexcept : heap_(heap), self_(self), full_(full) {}

  // All pins come before the first copy: what a stack points to may not have moved.
  void run(const std::byte* sp) noexcept {
    if (self_ != nullptr) note_stack(*self_, sp);
    const std::uint64_t begin = sys::monotonic_nanoseconds();
    stop_all(heap_, self_);
    const std::uint64_t stopped = sys::monotonic_nanoseconds();
    lifted_ = !is_little_to_close();
    if (lifted_) outcome_ = heap_.spaces.supplier().close_all();
    if (failed(outcome_)) remember_written();
    if (!failed(outcome_)) {
      const std::uint64_t closed = sys::monotonic_nanoseconds();
      begin_epoch();
      note_flip(heap_, lifted_);
      recall_remembered();
      queue_written();
      if (!lifted_) close_new_large();
      heap_.new_large.clear();
      take_allocation_pages();
      for (Thread* const thread : heap_.threads)
        for_each_word_of(*thread, [this](std::uint64_t word) { pin(word); });
      scan_pinned();
      heap_.roots.for_each([this](void*& word) {
        word = reinterpret_cast<void*>(
            forward(heap_, heap_.collector.worker, reinterpret_cast<std::uintptr_t>(word)));
      });
      heap_.report.stop_us = microseconds(begin, stopped);
      heap_.report.lift_us = microseconds(stopped, closed);
      heap_.flipped_at = begin;
      heap_.discovered = 0;
      heap_.lifted = lifted_;
      // What was not lifted is open already, but for what is queued.
      const bool is_known = full_ || (!lifted_ && !heap_.spaces.supplier().finds_later());
      heap_.stage.store(is_known ? Stage::drain : Stage::discover, std::memory_order_release);
      if (!heap_.spaces.supplier().closes()) scan_all_in_pause(heap_);
      heap_.begun.store(heap_.cycle.load(), std::memory_order_release);
    }
    const std::uint64_t end = sys::monotonic_nanoseconds();
    heap_.report.pause_us = microseconds(stopped, end);
    note_pause(heap_, begin, stopped, end);
    resume_all(heap_);
  }
  [[nodiscard]] const Outcome& outcome() const noexcept { return outcome_; }

 private:
  // Closing everything costs the collector 0.2 to 0.4 us for each page of the old space that it
  // opens again. So a minor cycle of a small heap asks first, a nanosecond a page, what was
  // written; and closes that alone if it is little.
  static constexpr std::size_t kMostToLookAt = 131072;   // 512 MiB: 0.15 ms
  static constexpr std::size_t kMostToClose = 16;        // each 2 to 5 us
  static constexpr std::size_t kMostToCloseInRuns = 64;  // of new large objects

  bool is_little_to_close() noexcept {
    PageSupplier& supplier = heap_.spaces.supplier();
    if (supplier.finds_later()) return !full_;
    const PageSpan old{heap_.spaces.old.begin, heap_.old_pages.wild()};
    const PageSpan large{heap_.spaces.large.begin, heap_.large.wild()};
    if (full_ || !supplier.closes() || old.size() + large.size() > kMostToLookAt) return false;
    std::size_t pages = remembered_before().size();
    if (pages > kMostToClose || pages_of_new_large() > kMostToCloseInRuns) return false;
    for (const PageSpan span : {old, large}) {
      if (span.size() == 0) continue;
      std::size_t found = 0;
      const Outcome outcome =
          supplier.find_written(heap_.spaces.range(span.begin, span.size()),
                                std::span(written_).subspan(written_runs_), found);
      for (std::size_t i = 0; i < found; ++i) pages += written_[written_runs_ + i].length.count();
      written_runs_ += found;
      // What was found is armed again: it is kept, whatever happens next.
      if (failed(outcome) || pages > kMostToClose || written_runs_ == written_.size()) return false;
    }
    return true;
  }

  std::size_t pages_of_new_large() noexcept {
    std::size_t pages = 0;
    for (std::size_t i = 0; i < heap_.new_large.size(); ++i)
      pages += heap_.spaces.info(heap_.new_large.at(i) - 1).extent;
    return pages;
  }
  template <class Visit>
  void for_each_written(Visit visit) noexcept {
    for (std::size_t i = 0; i < written_runs_; ++i) {
      const PageIndex first =
          Spaces::page_at(heap_.spaces.offset(reinterpret_cast<std::uintptr_t>(written_[i].base)));
      for (PageIndex page = first; page < first + written_[i].length.count(); ++page)
        if (heap_.spaces.info(page).kind.load(std::memory_order_relaxed) != PageKind::free)
          visit(page);
    }
  }
  void remember_written() noexcept {
    for_each_written([this](PageIndex page) { remember(heap_, page); });
  }
  void queue_written() noexcept {
    for_each_written([this](PageIndex page) {
      ++heap_.report.dirty_pages;
      // A new large object is scanned if something refers to it.
      if (!full_ && !heap_.is_from_space(first_page_of(heap_, page))) queue_due(page);
    });
  }
  void queue_due(PageIndex page) noexcept {
    const std::uint32_t number = heap_.cycle.load(std::memory_order_relaxed);
    if (heap_.spaces.info(page).due.exchange(number, std::memory_order_relaxed) == number) return;
    heap_.queue.push(page);
    if (!lifted_) close(page, 1);
    // Whoever scans a part of a large object reads its header the collector's way.
    if (const PageIndex first = first_page_of(heap_, page); first != page) queue_due(first);
  }

  // What a thread may not see before it is scanned; pinned pages too, which are scanned in a
  // moment, the collector's way.
  void close(PageIndex first, std::size_t count) noexcept {
    insist("a page of the old space cannot be closed",
           [&] { return heap_.spaces.supplier().close(heap_.spaces.range(first, count)); });
    note_closed(heap_, first, count, Closed::by_flip);
  }
  void close_new_large() noexcept {
    for (std::size_t i = 0; i < heap_.new_large.size(); ++i) {
      const PageIndex first = heap_.new_large.at(i) - 1;
      close(first, heap_.spaces.info(first).extent);
    }
  }

  Pile<PageIndex>& remembered_before() noexcept {
    return heap_.remembered[heap_.remembered_now.load(std::memory_order_relaxed)];
  }

  void begin_epoch() noexcept {
    const std::uint32_t number = heap_.cycle.load(std::memory_order_relaxed) + 1;
    heap_.report = Cycle{};
    heap_.report.number = number;
    heap_.report.full = full_;
    heap_.cycle.store(number, std::memory_order_relaxed);
    for (std::size_t kind = 0; kind < kPageKinds; ++kind) {
      const auto which = static_cast<PageKind>(kind);
      if (which == PageKind::free || which == PageKind::tail) continue;
      const bool is_dense = which == PageKind::old || which == PageKind::leaf;
      if (is_dense && heap_.marks_in_place) continue;
      if (full_ || is_young(which)) heap_.limits[kind].store(number, std::memory_order_relaxed);
    }
    heap_.full.store(full_, std::memory_order_relaxed);
    heap_.scanning.begin();
    heap_.twin.begin_cycle(heap_, full_);
    heap_.queue.clear();
    heap_.pinned.clear();
    heap_.nursery_taken.store(0, std::memory_order_relaxed);
    heap_.for_each_worker([](Worker& worker) { worker.drop_buffers(); });
  }

  // A thread that is interrupted between looking at the end of its page and taking a part of it
  // goes on taking it: the page stays its own, and everything in it counts as alive. Threads that
  // wait in a call of ours get another one instead.
  void take_allocation_pages() noexcept {
    for (Thread* const thread : heap_.threads) {
      if (thread->page == kNoPage) continue;
      const std::byte* const start = heap_.spaces.address(thread->page);
      heap_.spaces.info(thread->page)
          .fill.store(static_cast<std::uint32_t>(thread->allocation->next - start),
                      std::memory_order_relaxed);
      const bool waits = thread == self_ || thread->status.load() == ThreadStatus::held;
      if (waits) {
        thread->page = kNoPage;
        thread->page_end = thread->allocation->next = thread->allocation->end = nullptr;
      } else {
        pin(reinterpret_cast<std::uint64_t>(start));
      }
    }
  }

  void pin(std::uint64_t word) noexcept {
    const std::uintptr_t offset = heap_.spaces.offset(word);
    if (offset >= heap_.spaces.size()) return;
    const PageIndex page = Spaces::page_at(offset);
    PageInfo& info = heap_.spaces.info(page);
    const std::uint32_t number = heap_.cycle.load(std::memory_order_relaxed);
    const PageKind kind = info.kind.load(std::memory_order_relaxed);
    if (kind != PageKind::free && heap_.twin.note_pointed(heap_, page, offset) && !lifted_)
      queue_due(page);
    switch (kind) {
      case PageKind::free:
        return;
      case PageKind::leaf:
      case PageKind::sparse_leaf:
        if (full_) info.epoch.store(number, std::memory_order_relaxed);
        return;
      case PageKind::young:
        if (!heap_.is_from_space(page)) return;
        info.epoch.store(number, std::memory_order_relaxed);
        break;
      case PageKind::old:
      case PageKind::sparse:
        // Open, and nothing in it refers to from-space.
        if (!lifted_ && info.due.load(std::memory_order_relaxed) != number) return;
        if (info.opened.load(std::memory_order_relaxed) == number) return;
        info.opened.store(number, std::memory_order_relaxed);
        if (full_) {
          keep_whole(heap_, page);
        } else {
          info.done.store(0, std::memory_order_relaxed);
        }
        break;
      default: {
        const PageIndex first = first_page_of(heap_, page);
        const bool is_marked = mark_large(heap_, first);
        if (is_marked) heap_.twin.note_new_large(heap_, first);
        const bool is_new =
            is_marked || heap_.spaces.info(first).epoch.load(std::memory_order_relaxed) == number;
        if (!heap_.spaces.is_supplied(page) ||
            info.opened.load(std::memory_order_relaxed) == number)
          return;
        if (!lifted_ && !is_new && info.due.load(std::memory_order_relaxed) != number) return;
        info.opened.store(number, std::memory_order_relaxed);
      }
    }
    ++heap_.report.pins;
    note_pin(heap_, page);
    heap_.pinned.push(page + 1);
  }

  // What refers to objects that were pinned in the nursery.
  void recall_remembered() noexcept {
    Pile<PageIndex>& pages = remembered_before();
    heap_.remembered_now.fetch_xor(1, std::memory_order_relaxed);
    for (std::size_t i = 0; i < pages.size(); ++i) {
      const PageIndex page = pages.at(i) - 1;
      PageInfo& info = heap_.spaces.info(page);
      info.remembered.store(false, std::memory_order_relaxed);
      // A full cycle comes to all that is alive.
      if (full_ || info.kind.load() == PageKind::free) continue;
      if (heap_.twin.cards.exist()) heap_.twin.cards.mark_before(page, Cards::kAll);
      queue_due(page);
    }
    pages.clear();
  }

  // Open when threads go on: a system call that was interrupted finds its buffers where they were.
  void scan_pinned() noexcept {
    Worker& worker = heap_.collector.worker;
    for (std::size_t i = 0; i < heap_.pinned.size(); ++i) {
      const PageIndex page = heap_.pinned.at(i) - 1;
      if (!heap_.spaces.is_supplied(page)) {
        scan_young_page(heap_, worker, page);
        continue;
      }
      scan_page(heap_, worker, page);
      const Outcome opened = heap_.spaces.supplier().open(heap_.spaces.range(page, 1), true);
      if (failed(opened)) {
        heap_.spaces.info(page).opened.store(0);  // its trap tries again, or the end of the cycle
        heap_.refused.store(true, std::memory_order_relaxed);
      } else {
        note_opened(heap_, page, 1, Opened::pinned);
      }
    }
  }

  HeapState& heap_;
  Thread* self_;
  bool full_;
  bool lifted_ = true;
  Outcome outcome_ = kDone;
  std::array<PageRange, 64> written_;
  std::size_t written_runs_ = 0;
};

}  // namespace

Outcome begin_cycle(HeapState& heap, Thread* self, bool full) noexcept {
  if (heap.collectors_gone.exchange(false)) {
    if (const Outcome started = start_collectors(heap); failed(started)) {
      heap.collectors_gone.store(true);
      return started;
    }
  }
  // Where the collector works inside the flip.
  std::unique_lock collector(heap.collector_lock, std::defer_lock);
  if (!heap.spaces.supplier().closes()) {
    const Critical critical(self);
    if (!collector.try_lock()) return Error{"gc", EBUSY};
  }
  Flip flip(heap, self, full);
  {
    lock_threads(heap, self);
    const std::lock_guard threads(heap.threads_lock, std::adopt_lock);
    if (heap.stage.load(std::memory_order_acquire) != Stage::idle) return Error{"gc", EBUSY};
    with_registers(
        [](void* which, const std::byte* sp) noexcept { static_cast<Flip*>(which)->run(sp); },
        &flip);
  }
  if (failed(flip.outcome())) return flip.outcome();
  if (collector.owns_lock()) {
    while (step(heap)) {
    }
  }
  sys::futex_wake_all(heap.begun);
  return kDone;
}

void wait_for_end(HeapState& heap, Thread* self) {
  for (;;) {
    const std::uint32_t begun = heap.begun.load(std::memory_order_acquire);
    const std::uint32_t ended = heap.ended.load(std::memory_order_acquire);
    if (begun == ended) return;
    if (heap.options.collectors != 0) {
      wait_blocked(self, heap.ended, ended);
    } else {
      help(heap, self);
    }
  }
}

Outcome collect(HeapState& heap, Thread* self, bool full) {
  for (;;) {
    wait_for_end(heap, self);
    const Outcome begun = begin_cycle(heap, self, full);
    if (begun.number == EBUSY) continue;
    if (!failed(begun)) wait_for_end(heap, self);
    return begun;
  }
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
