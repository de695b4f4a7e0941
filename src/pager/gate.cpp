#include "pager/gate.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "pager/engine.hpp"
#include "sys/thread_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {
namespace {

constinit std::atomic<std::uint32_t> g_inside{0};
constinit std::atomic<std::uint32_t> g_closed{0};  // the id of the thread that forks, or 0

struct Engines {
  std::mutex lock;
  std::vector<Engine*> all;
};
Engines& engines() {
  static auto* const the_engines = new Engines;  // leaked: faults may come after static destructors
  return *the_engines;
}

std::uint32_t own_id() noexcept PAGETRAP_SIGNAL_SAFE {
  return static_cast<std::uint32_t>(sys::thread_id());
}

// RACE a thread that counts itself in while the gate closes: both sides are sequentially
// consistent, so that either it sees the gate closed, or the forking thread sees it inside.
void enter() noexcept PAGETRAP_SIGNAL_SAFE {
  for (;;) {
    g_inside.fetch_add(1, std::memory_order_seq_cst);
    const std::uint32_t closed_by = g_closed.load(std::memory_order_seq_cst);
    if (closed_by == 0 || closed_by == own_id()) [[likely]]
      return;
    g_inside.fetch_sub(1, std::memory_order_seq_cst);
    sys::futex_wait(g_closed, closed_by, 1'000'000);
  }
}

// A nested entry of a thread that is inside passes whatever the gate: its outer one is waited for.
void before_fork() noexcept {
  engines().lock.lock();
  g_closed.store(own_id(), std::memory_order_seq_cst);
  while (g_inside.load(std::memory_order_seq_cst) != 0) sys::yield();
}

void open_gate() noexcept {
  g_closed.store(0, std::memory_order_seq_cst);
  sys::futex_wake_all(g_closed);
  engines().lock.unlock();
}

// The gate is open first: this thread has another id here, and it is the only one.
void in_child() noexcept {
  g_closed.store(0, std::memory_order_seq_cst);
  for (Engine* const engine : engines().all) engine->in_child();
  open_gate();
}

}  // namespace

// A signal between the look and the blocking finds nobody inside, and leaves it so.
Inside::Inside() noexcept PAGETRAP_SIGNAL_SAFE {
  if (sys::this_thread().pager_depth == 0) signals_.emplace(sys::AllSignalsBlocked::But::faults);
  if (sys::this_thread().pager_depth++ == 0) enter();
}

Inside::~Inside() PAGETRAP_SIGNAL_SAFE {
  if (--sys::this_thread().pager_depth == 0) g_inside.fetch_sub(1, std::memory_order_seq_cst);
}

Result<Done> prepare_gate() {
  static const int error = ::pthread_atfork(before_fork, open_gate, in_child);
  if (error != 0) return Error{"pthread_atfork", error};
  return Done{};
}

void enlist(Engine* engine) {
  Engines& known = engines();
  const std::lock_guard guard(known.lock);
  known.all.push_back(engine);
}

void delist(Engine* engine) noexcept {
  Engines& known = engines();
  const std::lock_guard guard(known.lock);
  std::erase(known.all, engine);
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
