// Thread: an attached thread, or the collector's own.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>

#include <pagetrap/gc/heap.hpp>

#include "gc/page.hpp"
#include "gc/pile.hpp"
#include "gc/worker.hpp"
#include "sys/thread_stack.hpp"
#include "sys/thread_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// What Thread::status may be: a futex word.
struct ThreadStatus {
  static constexpr std::uint32_t running = 0;
  static constexpr std::uint32_t blocked = 1;  // touches no object: its stack does not change
  static constexpr std::uint32_t held = 2;     // the same, and a flip looks at it: it may not go on
};

struct Thread {
  HeapState* heap = nullptr;
  detail::Allocation* allocation = nullptr;  // the thread's own
  detail::BarrierState* barriers = nullptr;  // the same
  Worker worker;
  pid_t id = 0;
  bool attached = true;  // false: the collector's
  sys::ThreadStack stack;
  Thread* outer = nullptr;  // of another heap, that the thread was attached to before

  // Nursery. `page` is where the thread allocates.
  PageIndex page = kNoPage;
  std::byte* page_end = nullptr;
  std::array<PageIndex, 16> chunk{};  // taken from the nursery together
  unsigned chunk_left = 0;
  std::uint64_t random = 0;  // Options::stress_seed

  // Stopping. A critical thread is not stopped before it has left its critical section.
  std::atomic<std::uint32_t> critical{0};
  std::atomic<bool> stop_pending{false};
  std::atomic<std::uint32_t> asked_round{0};   // the last stop that it was asked for
  std::atomic<std::uint32_t> parked_round{0};  // the last stop that it has obeyed
  std::atomic<std::uint32_t> status{ThreadStatus::running};
  const std::byte* sp = nullptr;         // while it stands still
  const std::byte* trap_sp = nullptr;    // in a trap: where the interrupted code's stack ends
  const std::byte* other_low = nullptr;  // the part of an alternate stack that it stands on
  const std::byte* other_high = nullptr;
};

/// Of the heap that the calling thread was attached to last; null: to none.
inline Thread* this_gc_thread() noexcept PAGETRAP_SIGNAL_SAFE {
  return static_cast<Thread*>(sys::this_thread().collected);
}

/// The same, as a user of `heap`; null if it is not attached to that.
inline Thread* this_gc_thread(const HeapState& heap) noexcept PAGETRAP_SIGNAL_SAFE {
  Thread* thread = this_gc_thread();
  while (thread != nullptr && thread->heap != &heap) thread = thread->outer;
  return thread;
}

/// Stops until the flip that is under way is over, if there is one that asks.
void park_if_asked(Thread& thread) noexcept PAGETRAP_SIGNAL_SAFE;

/// A scope in which the thread is not stopped: it has a lock, or is half through something that a
/// flip must find whole. For threads that are not attached (null) it does nothing.
class Critical {
 public:
  explicit Critical(Thread* thread) noexcept PAGETRAP_SIGNAL_SAFE : thread_(thread) {
    if (thread_ == nullptr) return;
    thread_->critical.store(thread_->critical.load(std::memory_order_relaxed) + 1,
                            std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~Critical() PAGETRAP_SIGNAL_SAFE {
    if (thread_ == nullptr) return;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    const std::uint32_t depth = thread_->critical.load(std::memory_order_relaxed) - 1;
    thread_->critical.store(depth, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (depth == 0 && thread_->stop_pending.load(std::memory_order_relaxed)) [[unlikely]]
      park_if_asked(*thread_);
  }
  Critical(const Critical&) = delete;
  Critical& operator=(const Critical&) = delete;

 private:
  Thread* thread_;
};

/// Where the thread stands, `sp` included: on its own stack, or on which other.
void note_stack(Thread& thread, const std::byte* sp) noexcept;

/// Calls `work(self)` with all registers that a caller may keep things in saved on the stack above
/// `sp`.
void with_registers(void (*work)(void* self, const std::byte* sp) noexcept, void* self) noexcept;

Thread* attach_thread(HeapState& heap);
void detach_thread(Thread* thread) noexcept;
/// HeapState::threads_lock, for a thread that may be attached (else null) and is not critical.
void lock_threads(HeapState& heap, Thread* thread) noexcept;
/// Mutator::blocking().
void run_blocking(Thread& thread, void (*work)(void* self), void* self);
/// Ends when no flip looks at the thread any more.
void end_blocking(Thread& thread) noexcept;
/// Waits for a futex word to change, blocked meanwhile if the thread is attached (not null).
void wait_blocked(Thread* thread, std::atomic<std::uint32_t>& word,
                  std::uint32_t expected) noexcept;

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
