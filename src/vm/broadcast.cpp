// for_every_other_thread: a signal to each thread, answered in its handler.
//
// Termination with exactness: the list of threads is read again after all known ones have answered,
// until it holds nobody new. A thread that is missing from that last list was created by one that
// had answered (an unanswered thread would be listed, with everything it created before), and
// inherits what `work` did to its creator's registers.
#include <signal.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <unordered_map>

#include <pagetrap/vm/freeze.hpp>

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
};

std::mutex g_one_at_a_time;
std::atomic<std::int64_t> g_limit_nanoseconds{1'000'000'000};
constinit std::atomic<std::uint32_t> g_answers{0};  // futex word: counts answers
constinit std::atomic<std::uint32_t> g_hold{0};     // futex word: 1 while threads are held
constinit std::atomic<const Round*> g_round{nullptr};

std::deque<Slot>& slots() {
  static auto* const the_slots = new std::deque<Slot>;  // never freed, never moved
  return *the_slots;
}

void on_broadcast(int, siginfo_t* info, void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  const sys::ErrnoSaver errno_saver;
  if (info->si_code != SI_QUEUE || info->si_pid != sys::process_id()) return;
  auto* const slot = static_cast<Slot*>(info->si_value.sival_ptr);
  if (slot == nullptr || slot->thread.load(std::memory_order_acquire) != current_thread()) return;
  auto expected = static_cast<std::uint32_t>(Answer::pending);
  if (!slot->answer.compare_exchange_strong(expected, static_cast<std::uint32_t>(Answer::running)))
    return;
  const Round* const round = g_round.load(std::memory_order_acquire);
  round->work(round->self, context);
  slot->answer.store(static_cast<std::uint32_t>(Answer::given), std::memory_order_release);
  g_answers.fetch_add(1, std::memory_order_release);
  sys::futex_wake_all(g_answers);
  while (g_hold.load(std::memory_order_acquire) != 0) sys::futex_wait(g_hold, 1);
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

// The threads of one round.
class Roll {
 public:
  // Adds threads that are not on the roll yet and signals them. Returns how many.
  Result<std::size_t> call_new_ones() {
    const auto threads = sys::list_threads();
    if (!threads) return threads.error();
    std::size_t added = 0;
    for (const pid_t thread : *threads) {
      if (thread == current_thread() || roll_.count(thread) != 0) continue;
      Slot& slot = slot_at(roll_.size());
      slot.thread.store(thread, std::memory_order_relaxed);
      slot.answer.store(static_cast<std::uint32_t>(Answer::pending), std::memory_order_release);
      roll_.emplace(thread, &slot);
      added += 1;
      call(thread, slot);
    }
    return added;
  }

  // Waits until everybody on the roll has answered or is gone.
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
          for (auto& [thread, slot] : roll_) call(thread, *slot);
          call_again = now + kCallAgain;
        }
      }
    }
  }

 private:
  static Slot& slot_at(std::size_t index) {
    while (slots().size() <= index) slots().emplace_back();
    return slots()[index];
  }
  static void call(pid_t thread, Slot& slot) {
    if (slot.answer.load(std::memory_order_acquire) != static_cast<std::uint32_t>(Answer::pending))
      return;
    // ESRCH: gone, all_answered(true) will see it. EAGAIN: queue full, called again later.
    static_cast<void>(
        sys::signal_thread(thread, freeze_signal(), reinterpret_cast<std::uintptr_t>(&slot)));
  }
  bool all_answered(bool look_for_the_gone) {
    for (auto& [thread, slot] : roll_) {
      if (slot->answer.load(std::memory_order_acquire) == static_cast<std::uint32_t>(Answer::given))
        continue;
      if (!look_for_the_gone || !sys::thread_is_gone(thread)) return false;
      slot->answer.store(static_cast<std::uint32_t>(Answer::given), std::memory_order_relaxed);
    }
    return true;
  }
  std::unordered_map<pid_t, Slot*> roll_;
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
  const std::lock_guard guard(g_one_at_a_time);
  if (const Outcome outcome = install_broadcast_handler(); failed(outcome)) return outcome;
  const Round round{work, self};
  g_round.store(&round, std::memory_order_release);
  g_hold.store(rendezvous != nullptr ? 1 : 0, std::memory_order_release);
  const Outcome outcome =
      run_round(sys::monotonic_nanoseconds() +
                static_cast<std::uint64_t>(g_limit_nanoseconds.load(std::memory_order_relaxed)));
  if (!failed(outcome) && rendezvous != nullptr) rendezvous(self);
  g_hold.store(0, std::memory_order_release);
  sys::futex_wake_all(g_hold);
  // RACE on a timeout a thread may answer later, when `round` is gone: no slot may stay pending,
  // and a handler that is running its work must be waited for.
  for (Slot& slot : slots()) {
    auto pending = static_cast<std::uint32_t>(Answer::pending);
    slot.answer.compare_exchange_strong(pending, static_cast<std::uint32_t>(Answer::given));
    while (slot.answer.load(std::memory_order_acquire) ==
           static_cast<std::uint32_t>(Answer::running))
      sys::yield();
  }
  return as_result(outcome);
}

void lock_broadcast() noexcept { g_one_at_a_time.lock(); }
void unlock_broadcast() noexcept { g_one_at_a_time.unlock(); }

}  // namespace v0
}  // namespace pagetrap
