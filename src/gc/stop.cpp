// A signal to each thread, answered in its handler, where the thread then waits; unless it is
// critical, and waits when it no longer is. Not for_every_other_thread(): see docs/design/gc.md.
#include "gc/stop.hpp"

#include <signal.h>

#include <array>
#include <cerrno>

#include <pagetrap/vm/freeze.hpp>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

constexpr bool is_asking(std::uint32_t round) noexcept PAGETRAP_SIGNAL_SAFE {
  return (round & 1) != 0;
}

struct Parking {
  Thread* thread;
  std::uint32_t round;
};

void stand_still(void* self, const std::byte* sp) noexcept {
  const auto& parking = *static_cast<Parking*>(self);
  Thread& thread = *parking.thread;
  HeapState& heap = *thread.heap;
  note_stack(thread, sp);
  heap.parked.fetch_add(1, std::memory_order_release);
  sys::futex_wake_all(heap.parked);
  while (heap.stop_round.load(std::memory_order_acquire) == parking.round)
    sys::futex_wait(heap.stop_round, parking.round);
}

void on_stop_signal(int, siginfo_t*, void*) noexcept {
  const sys::ErrnoSaver saver;
  for (Thread* thread = this_gc_thread(); thread != nullptr; thread = thread->outer) {
    if (thread->critical.load(std::memory_order_relaxed) != 0) {
      thread->stop_pending.store(true, std::memory_order_relaxed);
    } else {
      park_if_asked(*thread);
    }
  }
}

bool is_free(int signal) noexcept {
  struct sigaction current {};
  return ::sigaction(signal, nullptr, &current) == 0 && (current.sa_flags & SA_SIGINFO) == 0 &&
         current.sa_handler == SIG_DFL;
}

bool is_ours(int signal) noexcept {
  struct sigaction current {};
  return ::sigaction(signal, nullptr, &current) == 0 && (current.sa_flags & SA_SIGINFO) != 0 &&
         current.sa_sigaction == on_stop_signal;
}

}  // namespace

// A stack that is not the thread's own: the alternate one, of which all above `sp` is in use.
void note_stack(Thread& thread, const std::byte* sp) noexcept {
  thread.sp = sp;
  thread.other_low = sp;
  thread.other_high = sp;
  if (sp >= thread.stack.low && sp < thread.stack.high) return;
  stack_t alternate{};
  if (sys::alternate_stack(alternate) != 0) return;
  const auto* const base = static_cast<const std::byte*>(alternate.ss_sp);
  if (sp >= base && sp < base + alternate.ss_size) thread.other_high = base + alternate.ss_size;
}

// stand_still() waits on a futex, and is proved by nobody: it is called in a signal handler, and
// does what one may.
//
// RACE a signal that comes late, or while the thread has looked by itself: it stands still once for
// each round that counts on it. The signal may come between any two lines here, and its handler
// does the same: the one who changes parked_round stands still, and is counted.
void park_if_asked(Thread& thread) noexcept PAGETRAP_SIGNAL_SAFE {
  thread.stop_pending.store(false, std::memory_order_relaxed);
  std::uint32_t last = thread.parked_round.load(std::memory_order_relaxed);
  Parking parking{&thread, thread.heap->stop_round.load(std::memory_order_acquire)};
  if (!is_asking(parking.round) || last == parking.round ||
      thread.asked_round.load(std::memory_order_acquire) != parking.round ||
      !thread.parked_round.compare_exchange_strong(last, parking.round))
    return;
  sys::call_unproved([](void* self) { with_registers(stand_still, self); }, &parking);
}

Result<int> prepare_stop_signal(int wanted) {
  static std::mutex lock;
  const std::lock_guard guard(lock);
  int signal = wanted;
  if (signal == 0) {
    for (int candidate = SIGRTMAX; candidate >= SIGRTMIN && signal == 0; --candidate)
      if (is_ours(candidate)) signal = candidate;
    for (int candidate = SIGRTMAX; candidate >= SIGRTMIN && signal == 0; --candidate)
      if (candidate != freeze_signal() && is_free(candidate)) signal = candidate;
    if (signal == 0)
      return Error{"gc::Heap", EBUSY, {}, "no real-time signal is free; set Options::stop_signal"};
  }
  if (is_ours(signal)) return signal;
  struct sigaction action {};
  action.sa_sigaction = on_stop_signal;
  // On the stack that the thread is on: what it keeps there must be found. No other handler runs
  // while it stands still, but for faults.
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  ::sigfillset(&action.sa_mask);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP})
    ::sigdelset(&action.sa_mask, fault);
  if (::sigaction(signal, &action, nullptr) != 0)
    return Error{"sigaction of the stop signal", errno};
  return signal;
}

void stop_all(HeapState& heap, const Thread* self) noexcept {
  heap.parked.store(0, std::memory_order_relaxed);
  heap.stop_round.fetch_add(1, std::memory_order_seq_cst);
  std::uint32_t expected = 0;
  for (Thread* const thread : heap.threads) {
    if (thread == self) continue;
    auto blocked = ThreadStatus::blocked;
    if (thread->status.compare_exchange_strong(blocked, ThreadStatus::held)) continue;
    thread->asked_round.store(heap.stop_round.load(std::memory_order_relaxed),
                              std::memory_order_release);
    int error = 0;
    // EAGAIN: too many signals are queued (RLIMIT_SIGPENDING); some will be delivered.
    while ((error = sys::thread_kill(thread->id, heap.options.stop_signal)) == EAGAIN) sys::yield();
    if (error != 0) give_up("a thread ended while it was attached to a gc::Heap", error);
    ++expected;
  }
  for (std::uint32_t now = heap.parked.load(std::memory_order_acquire); now < expected;
       now = heap.parked.load(std::memory_order_acquire))
    sys::futex_wait(heap.parked, now);
}

void resume_all(HeapState& heap) noexcept {
  heap.stop_round.fetch_add(1, std::memory_order_seq_cst);
  sys::futex_wake_all(heap.stop_round);
  for (Thread* const thread : heap.threads) {
    auto held = ThreadStatus::held;
    if (thread->status.compare_exchange_strong(held, ThreadStatus::blocked))
      sys::futex_wake_all(thread->status);
  }
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
