#include "sys/company.hpp"

#include <atomic>
#include <cstdint>

#include "sys/signal_safe_calls.hpp"
#include "sys/thread_state.hpp"

namespace pagetrap::sys {
namespace {

// The process that has them, and how many: fork() copies the number, not the threads.
struct alignas(8) Own {
  std::uint32_t process = 0;
  std::uint16_t changes = 0;
  std::uint16_t count = 0;
};
constinit std::atomic<Own> g_own{};
static_assert(std::atomic<Own>::is_always_lock_free);

void add(int more) noexcept {
  const auto process = static_cast<std::uint32_t>(process_id());
  Own now = g_own.load(std::memory_order_relaxed);
  Own next;
  do {
    const int count = now.process == process ? now.count : 0;
    next = {process, static_cast<std::uint16_t>(now.changes + 1),
            static_cast<std::uint16_t>(count + more)};
  } while (!g_own.compare_exchange_weak(now, next));
}

}  // namespace

OwnThread::OwnThread() noexcept {
  this_thread().is_own = true;
  add(1);
}
OwnThread::~OwnThread() {
  add(-1);
  this_thread().is_own = false;
}

// RACE own threads may begin and end beside this: nothing was counted between the two looks, so at
// the instant in which the kernel counts there are at least as many of them as `before` says.
bool alone() noexcept PAGETRAP_SIGNAL_SAFE {
  if (this_thread().is_own) return false;
  const Own before = g_own.load();
  const unsigned threads = threads_of_process();
  const Own after = g_own.load();
  if (before.process != after.process || before.changes != after.changes) return false;
  const bool ours = before.process == static_cast<std::uint32_t>(process_id());
  return threads == (ours ? before.count + 1U : 1U);
}

}  // namespace pagetrap::sys
