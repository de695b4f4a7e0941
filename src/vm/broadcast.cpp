// for_every_other_thread: a signal to each thread, answered in its handler.
//
// Termination with exactness: the list of threads is read again after all known ones have answered,
// until a complete pass (sys/tasks.hpp) holds nobody new. A thread that is missing from that pass
// was created by one that had answered (an unanswered thread would be listed, with everything it
// created before), and inherits what `work` did to its creator's registers.
//
// Nothing here allocates with malloc once the first thread has been called: with a rendezvous the
// threads are held where they are, one of them perhaps with malloc's lock.
#include <signal.h>

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>

#include <pagetrap/vm/freeze.hpp>

#include "sys/mapping.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/tasks.hpp"
#include "vm/dispatch.hpp"
#include "vm/fork.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

enum class Answer : std::uint32_t { pending, running, given };

// One thread's part in a round. Slots are reused and never freed: a signal of an earlier round may
// arrive late (its thread was stopped by a debugger), finds a slot that is not its thread's, or
// that is answered already, and does nothing.
struct Slot {
  std::atomic<pid_t> thread{0};
  std::atomic<std::uint32_t> answer{static_cast<std::uint32_t>(Answer::given)};
};

struct Round {
  ThreadWork work = nullptr;
  void* self = nullptr;
  std::uint32_t number = 0;  // never 0
};

std::mutex g_one_at_a_time;
std::atomic<std::int64_t> g_limit_nanoseconds{1'000'000'000};
constinit std::atomic<std::uint32_t> g_answers{0};  // futex word: counts answers
// Futex word: the number of the round whose threads are held, or 0. A thread leaves when it is not
// its own round's any more, even if the next one has begun to hold.
constinit std::atomic<std::uint32_t> g_held_round{0};
constinit std::atomic<const Round*> g_round{nullptr};

// Slots by number, in chunks that double: a slot never moves, and is never given back. 2^26 are
// more than the kernel can have threads.
class SlotTable {
 public:
  /// Null if there is no memory for it.
  Slot* at(std::size_t index) noexcept {
    const std::size_t number = index + kFirst;
    const auto chunk = static_cast<std::size_t>(std::bit_width(number) - std::bit_width(kFirst));
    const std::size_t size = kFirst << chunk;
    if (chunk == chunks_.size()) return nullptr;
    if (chunks_[chunk] == nullptr && !make(chunk, size)) return nullptr;
    return chunks_[chunk] + (number - size);
  }
  /// Calls `visit` for every slot there is.
  template <class Visit>
  void for_each(Visit visit) {
    for (std::size_t chunk = 0; chunk < chunks_.size() && chunks_[chunk] != nullptr; ++chunk)
      for (std::size_t i = 0; i < kFirst << chunk; ++i) visit(chunks_[chunk][i]);
  }

 private:
  static constexpr std::size_t kFirst = 64;
  bool make(std::size_t chunk, std::size_t size) noexcept {
    sys::Mapping::Request request;
    request.size_bytes = size * sizeof(Slot);
    request.prot = PROT_READ | PROT_WRITE;
    request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
    auto memory = sys::Mapping::create(request);
    if (!memory) return false;
    auto* const slots = reinterpret_cast<Slot*>(memory->release().base);
    for (std::size_t i = 0; i < size; ++i) new (slots + i) Slot;
    chunks_[chunk] = slots;
    return true;
  }
  std::array<Slot*, 20> chunks_{};
};
constinit SlotTable g_slots;  // GUARDED_BY(g_one_at_a_time)

void on_broadcast(int, siginfo_t* info, void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  const sys::ErrnoSaver errno_saver;
  if (info->si_code != SI_QUEUE || info->si_pid != sys::process_id()) return;
  auto* const slot = static_cast<Slot*>(info->si_value.sival_ptr);
  if (slot == nullptr || slot->thread.load(std::memory_order_acquire) != current_thread()) return;
  auto expected = static_cast<std::uint32_t>(Answer::pending);
  if (!slot->answer.compare_exchange_strong(expected, static_cast<std::uint32_t>(Answer::running)))
    return;
  const Round* const round = g_round.load(std::memory_order_acquire);
  const std::uint32_t number = round->number;  // the round may be over once this has answered
  round->work(round->self, context);
  slot->answer.store(static_cast<std::uint32_t>(Answer::given), std::memory_order_release);
  g_answers.fetch_add(1, std::memory_order_release);
  sys::futex_wake_all(g_answers);
  while (g_held_round.load(std::memory_order_acquire) == number)
    sys::futex_wait(g_held_round, number);
}

bool is_free(int signal) noexcept {
  struct sigaction current {};
  return ::sigaction(signal, nullptr, &current) == 0 && (current.sa_flags & SA_SIGINFO) == 0 &&
         current.sa_handler == SIG_DFL;
}

int choose_signal() {
  if (const char* wanted = std::getenv("PAGETRAP_SIGNAL"); wanted != nullptr) {
    const int number = std::atoi(wanted);
    if (number > 0 && number < NSIG) return number;
  }
  int signal = SIGRTMAX - 1;
  while (signal > SIGRTMIN && !is_free(signal)) --signal;
  return signal;
}

Outcome install_broadcast_handler() {
  struct sigaction action {};
  action.sa_sigaction = on_broadcast;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  // Nothing else runs on top of it: what it sees is what the thread goes on with.
  ::sigfillset(&action.sa_mask);
  if (::sigaction(freeze_signal(), &action, nullptr) != 0)
    return Error{"sigaction of the broadcast signal",
                 errno,
                 {},
                 "PAGETRAP_SIGNAL must name a signal that can be caught"};
  return kDone;
}

// The threads of one round: the first `size_` slots.
class Roll {
 public:
  /// One pass over the threads: those that are not on the roll yet are added and called. Returns
  /// how many, or how many are gone, which makes the pass worth nothing.
  Result<std::size_t> call_new_ones() {
    auto walk = sys::ThreadWalk::begin();
    if (!walk) return walk.error();
    const std::size_t known = size_;
    std::size_t expected = 0;  // the kernel lists threads in the order of their creation, mostly
    while (const pid_t thread = walk->next()) {
      if (thread == current_thread() || is_known(thread, known, expected)) continue;
      Slot* const slot = g_slots.at(size_);
      if (slot == nullptr) return Error{"broadcast to all threads", ENOMEM};
      slot->thread.store(thread, std::memory_order_relaxed);
      slot->answer.store(static_cast<std::uint32_t>(Answer::pending), std::memory_order_release);
      size_ += 1;
      call(*slot);
    }
    if (walk->failed() != 0) return Error{"getdents64 of /proc/self/task", walk->failed()};
    return size_ - known + count_the_gone();
  }

  // Waits until everybody on the roll has answered or never will.
  bool wait(std::uint64_t deadline) {
    constexpr std::uint64_t kLookAround = 2'000'000;  // ns between looks for threads that exited
    constexpr std::uint64_t kCallAgain = 50'000'000;  // a full signal queue, a reused thread id
    std::uint64_t call_again = sys::monotonic_nanoseconds() + kCallAgain;
    for (;;) {
      const std::uint32_t seen = g_answers.load(std::memory_order_acquire);
      if (all_answered(false)) return true;
      sys::futex_wait(g_answers, seen, kLookAround);
      const std::uint64_t now = sys::monotonic_nanoseconds();
      if (g_answers.load(std::memory_order_acquire) == seen) {
        if (all_answered(true)) return true;
        if (now > deadline) return false;
        if (now > call_again) {
          for (std::size_t i = 0; i < size_; ++i) call(*g_slots.at(i));
          call_again = now + kCallAgain;
        }
      }
    }
  }

 private:
  bool is_known(pid_t thread, std::size_t known, std::size_t& expected) {
    for (std::size_t looked = 0; looked < known; ++looked) {
      const std::size_t i = (expected + looked) % known;
      if (g_slots.at(i)->thread.load(std::memory_order_relaxed) != thread) continue;
      expected = i + 1;
      return true;
    }
    return false;
  }
  static void call(Slot& slot) {
    if (slot.answer.load(std::memory_order_acquire) != static_cast<std::uint32_t>(Answer::pending))
      return;
    // ESRCH: gone, all_answered(true) will see it. EAGAIN: queue full, called again later.
    static_cast<void>(sys::signal_thread(slot.thread.load(std::memory_order_relaxed),
                                         freeze_signal(), reinterpret_cast<std::uintptr_t>(&slot)));
  }
  bool all_answered(bool look_for_the_gone) {
    for (std::size_t i = 0; i < size_; ++i) {
      Slot& slot = *g_slots.at(i);
      if (slot.answer.load(std::memory_order_acquire) == static_cast<std::uint32_t>(Answer::given))
        continue;
      if (!look_for_the_gone ||
          !sys::thread_takes_no_signals(slot.thread.load(std::memory_order_relaxed)))
        return false;
      slot.answer.store(static_cast<std::uint32_t>(Answer::given), std::memory_order_relaxed);
    }
    return true;
  }
  // Takes threads that are not listed any more off the roll: their ids may come again.
  std::size_t count_the_gone() {
    std::size_t gone = 0;
    for (std::size_t i = 0; i < size_; ++i) {
      std::atomic<pid_t>& thread = g_slots.at(i)->thread;
      if (thread == 0 || sys::thread_is_listed(thread)) continue;
      g_slots.at(i)->answer.store(static_cast<std::uint32_t>(Answer::given));
      thread = 0;
      gone += 1;
    }
    return gone;
  }
  std::size_t size_ = 0;
};

Outcome run_round(std::uint64_t deadline) {
  Roll roll;
  for (;;) {
    const auto added = roll.call_new_ones();
    if (!added) return added.error();
    if (*added == 0) return kDone;
    if (!roll.wait(deadline))
      return Error{"broadcast to all threads",
                   ETIMEDOUT,
                   {},
                   "some thread blocks the signal that freeze_signal() names; unblock it there"};
  }
}

}  // namespace

int freeze_signal() {
  static const int signal = choose_signal();
  return signal;
}

void set_freeze_timeout(std::chrono::milliseconds limit) noexcept {
  g_limit_nanoseconds.store(std::chrono::nanoseconds(limit).count());
}

Result<Done> for_every_other_thread(ThreadWork work, void* self, Rendezvous rendezvous) {
  // Whoever waits here must answer the one before.
  const std::lock_guard guard(g_one_at_a_time);
  // A signal handler that touched a page here would wait for a handler thread, which is held.
  const sys::AllSignalsBlocked no_interruption(sys::AllSignalsBlocked::But::faults);
  if (const Outcome outcome = install_broadcast_handler(); failed(outcome)) return outcome;
  static std::uint32_t rounds = 0;
  if (++rounds == 0) ++rounds;
  const Round round{work, self, rounds};
  g_round.store(&round, std::memory_order_release);
  g_held_round.store(rendezvous != nullptr ? round.number : 0, std::memory_order_release);
  const Outcome outcome =
      run_round(sys::monotonic_nanoseconds() +
                static_cast<std::uint64_t>(g_limit_nanoseconds.load(std::memory_order_relaxed)));
  if (!failed(outcome) && rendezvous != nullptr) rendezvous(self);
  g_held_round.store(0, std::memory_order_release);
  sys::futex_wake_all(g_held_round);
  // RACE on a timeout a thread may answer later, when `round` is gone: no slot may stay pending,
  // and a handler that is running its work must be waited for.
  g_slots.for_each([](Slot& slot) {
    auto pending = static_cast<std::uint32_t>(Answer::pending);
    slot.answer.compare_exchange_strong(pending, static_cast<std::uint32_t>(Answer::given));
    while (slot.answer.load(std::memory_order_acquire) ==
           static_cast<std::uint32_t>(Answer::running))
      sys::yield();
  });
  return as_result(outcome);
}

void lock_broadcast() noexcept { g_one_at_a_time.lock(); }
void unlock_broadcast() noexcept { g_one_at_a_time.unlock(); }

}  // namespace v0
}  // namespace pagetrap
