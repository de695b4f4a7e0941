// The child has a heap if the supply's memory is copied by fork(), no cycle is under way, and no
// other thread is half through something. So the cycle under way is waited for, every lock is held,
// and the other attached threads must be in blocking regions: they are held there.
//
// Threads that run are not stopped by a signal for it: fork() takes malloc's lock, which one of
// them may have. The child of such a process has no heap, and says so when it is used.
#include "gc/fork.hpp"

#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <thread>
#include <vector>

#include "gc/flip.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/fork.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

struct ForkList {
  std::mutex lock;
  std::vector<HeapState*> all;  // GUARDED_BY(lock)
};

// Never ended: a fork() may come while the process ends.
ForkList& fork_list() {
  static auto* const list = new ForkList;
  return *list;
}

// Where it has allocated to, for whoever finds the page without its thread.
void note_fill(HeapState& heap, const Thread& thread) noexcept {
  if (thread.page == kNoPage) return;
  const std::byte* const start = heap.spaces.address(thread.page);
  heap.spaces.info(thread.page)
      .fill.store(static_cast<std::uint32_t>(thread.allocation->next - start),
                  std::memory_order_relaxed);
}

void hold_threads(HeapState& heap, const Thread* self) noexcept {
  heap.forkable = heap.spaces.supplier().forks();
  for (Thread* const thread : heap.threads) {
    if (thread == self) continue;
    auto blocked = ThreadStatus::blocked;
    if (thread->status.compare_exchange_strong(blocked, ThreadStatus::held)) {
      note_fill(heap, *thread);
    } else {
      heap.forkable = false;
    }
  }
}

void release_threads(HeapState& heap) noexcept {
  for (Thread* const thread : heap.threads) {
    auto held = ThreadStatus::held;
    if (thread->status.compare_exchange_strong(held, ThreadStatus::blocked))
      sys::futex_wake_all(thread->status);
  }
}

// No cycle is under way, and none begins while threads_lock is held. The others: whoever has one is
// critical, and gives it back without waiting for any of these.
void lock_heap(HeapState& heap) noexcept {
  Thread* const self = this_gc_thread(heap);
  // In a blocking region flips do not wait for it.
  const bool is_blocked = self != nullptr && self->status.load() != ThreadStatus::running;
  Thread* const waiting = is_blocked ? nullptr : self;
  for (;;) {
    wait_for_end(heap, waiting);
    heap.collector_lock.lock();
    lock_threads(heap, waiting);
    if (heap.stage.load(std::memory_order_acquire) == Stage::idle) break;
    heap.threads_lock.unlock();
    heap.collector_lock.unlock();
  }
  hold_threads(heap, self);
  // Its handlers use the heap no more until this is over.
  if (self != nullptr) ++self->critical;
  heap.nursery_lock.lock();
  heap.roots.lock.lock();
  heap.weaks.lock.lock();
  heap.destroy_lock.lock();
  heap.large.lock();
  heap.large_leaf.lock();
  heap.statistics_lock.lock();
}

void unlock_heap(HeapState& heap) noexcept {
  heap.statistics_lock.unlock();
  heap.large_leaf.unlock();
  heap.large.unlock();
  heap.destroy_lock.unlock();
  heap.weaks.lock.unlock();
  heap.roots.lock.unlock();
  heap.nursery_lock.unlock();
  if (Thread* const self = this_gc_thread(heap)) --self->critical;
  release_threads(heap);
  heap.threads_lock.unlock();
  heap.collector_lock.unlock();
}

void before_fork() {
  fork_list().lock.lock();
  for (HeapState* const heap : fork_list().all) lock_heap(*heap);
}

void in_parent() {
  for (HeapState* const heap : fork_list().all) unlock_heap(*heap);
  fork_list().lock.unlock();
}

// Of the attached threads only this one is here; what the others had is as alive as what refers to
// it. Their records are left: who owned them is not here either.
void begin_anew(HeapState& heap) noexcept {
  Thread* const self = this_gc_thread(heap);
  std::erase_if(heap.threads, [&](const Thread* thread) { return thread != self; });
  if (self != nullptr) self->id = sys::thread_id();
  // Not detach(): there are no such threads here.
  new (&heap.collector_threads) std::vector<std::thread>;
  heap.collectors_gone = heap.options.collectors != 0 && heap.spaces.supplier().closes();
  heap.spaces.supplier().forked();
}

void close_heap(HeapState& heap) noexcept {
  heap.closed.store(true);
  new (&heap.collector_threads) std::vector<std::thread>;
  // The next allocation asks.
  if (Thread* const self = this_gc_thread(heap))
    self->page_end = self->allocation->end = self->allocation->next;
}

void in_child() {
  for (HeapState* const heap : fork_list().all) {
    if (heap->forkable) {
      begin_anew(*heap);
    } else {
      close_heap(*heap);
    }
    unlock_heap(*heap);
  }
  fork_list().lock.unlock();
}

}  // namespace

Outcome handle_forks() {
  if (const auto prepared = prepare_for_forks(); !prepared) return prepared.error();
  static const int error = ::pthread_atfork(before_fork, in_parent, in_child);
  return error == 0 ? kDone : Error{"pthread_atfork", error};
}

void add_to_fork_list(HeapState& heap) {
  const std::lock_guard guard(fork_list().lock);
  fork_list().all.push_back(&heap);
}

void remove_from_fork_list(HeapState& heap) noexcept {
  const std::lock_guard guard(fork_list().lock);
  std::erase(fork_list().all, &heap);
}

void check_usable(const HeapState& heap) {
  if (!heap.closed.load(std::memory_order_relaxed)) return;
  const char* const why =
      heap.spaces.supplier().forks()
          ? "this process was fork()ed while another thread used the heap; keep those that wait in "
            "Mutator::blocking()"
          : "this process was fork()ed and this supply's memory is not copied: use "
            "PageSupply::uffd_copy";
  throw SystemError(Error{"gc::Heap", EOWNERDEAD, {}, why});
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
