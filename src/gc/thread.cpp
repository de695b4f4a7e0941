#include "gc/thread.hpp"

#include <ucontext.h>

#include <cerrno>
#include <memory>

#include "gc/fork.hpp"
#include "gc/heap_state.hpp"
#include "gc/scan.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace detail {

constinit thread_local Allocation allocation;

}  // namespace detail

void with_registers(void (*work)(void* self, const std::byte* sp) noexcept, void* self) noexcept {
  // getcontext() and not setjmp(): glibc's has some registers only in disguise.
  ucontext_t registers;
  ::getcontext(&registers);
  work(self, reinterpret_cast<const std::byte*>(&registers));
  // Keeps the frame until here.
  asm volatile("" : : "r"(&registers) : "memory");
}

Thread* attach_thread(HeapState& heap) {
  check_usable(heap);
  auto thread = std::make_unique<Thread>();
  thread->heap = &heap;
  thread->id = sys::thread_id();
  if (const int error = sys::find_thread_stack(thread->stack))
    throw SystemError(Error{"pthread_getattr_np", error});
  thread->allocation = &detail::allocation;
  thread->outer = this_gc_thread();
  thread->random = heap.options.stress_seed;
  const std::lock_guard guard(heap.threads_lock);
  heap.threads.push_back(thread.get());
  // RACE a signal from here on: a flip has to wait for the lock.
  sys::this_thread().collected = thread.get();
  detail::allocation = {nullptr, nullptr, &heap};
  thread->barriers = &detail::barriers;
  detail::barriers = heap.twin.state;
  return thread.release();
}

void detach_thread(Thread* thread) noexcept {
  HeapState& heap = *thread->heap;
  lock_threads(heap, thread);
  const std::lock_guard guard(heap.threads_lock, std::adopt_lock);
  if (thread->page != kNoPage) {
    PageInfo& info = heap.spaces.info(thread->page);
    info.fill.store(
        static_cast<std::uint32_t>(thread->allocation->next - heap.spaces.address(thread->page)),
        std::memory_order_release);
  }
  {
    const std::lock_guard nursery(heap.nursery_lock);
    while (thread->chunk_left != 0) heap.nursery_free.push(thread->chunk[--thread->chunk_left] + 1);
  }
  retire_buffers(heap, thread->worker);
  {
    const std::lock_guard statistics(heap.statistics_lock);
    heap.statistics.traps += thread->worker.traps.load();
    heap.statistics.copied_bytes += thread->worker.copied_bytes.load();
  }
  std::erase(heap.threads, thread);
  sys::this_thread().collected = thread->outer;
  delete thread;
}

void end_blocking(Thread& thread) noexcept {
  for (;;) {
    auto blocked = ThreadStatus::blocked;
    if (thread.status.compare_exchange_strong(blocked, ThreadStatus::running)) return;
    sys::futex_wait(thread.status, ThreadStatus::held);
  }
}

namespace {

struct Wait {
  Thread& thread;
  std::atomic<std::uint32_t>& word;
  std::uint32_t expected;
};

class Blocked {
 public:
  Blocked(Thread& thread, const std::byte* sp) noexcept : thread_(thread) {
    note_stack(thread, sp);
    thread.status.store(ThreadStatus::blocked, std::memory_order_seq_cst);
  }
  ~Blocked() { end_blocking(thread_); }
  Blocked(const Blocked&) = delete;
  Blocked& operator=(const Blocked&) = delete;

 private:
  Thread& thread_;
};

}  // namespace

void run_blocking(Thread& thread, void (*work)(void* self), void* self) {
  ucontext_t registers;  // what callers keep in theirs; above it nothing changes meanwhile
  ::getcontext(&registers);
  {
    const Blocked blocked(thread, reinterpret_cast<const std::byte*>(&registers));
    work(self);
  }
  asm volatile("" : : "r"(&registers) : "memory");
}

void wait_blocked(Thread* thread, std::atomic<std::uint32_t>& word,
                  std::uint32_t expected) noexcept {
  if (thread == nullptr) return sys::futex_wait(word, expected);
  Wait wait{*thread, word, expected};
  with_registers(
      [](void* self, const std::byte* sp) noexcept {
        const auto& here = *static_cast<Wait*>(self);
        const Blocked blocked(here.thread, sp);
        sys::futex_wait(here.word, here.expected);
      },
      &wait);
}

// A flip has the lock, and waits for this thread to stand still: so it does meanwhile.
void lock_threads(HeapState& heap, Thread* thread) noexcept {
  if (heap.threads_lock.try_lock()) return;
  if (thread == nullptr) return heap.threads_lock.lock();
  with_registers(
      [](void* self, const std::byte* sp) noexcept {
        Thread& here = *static_cast<Thread*>(self);
        const Blocked blocked(here, sp);
        here.heap->threads_lock.lock();
      },
      thread);
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
