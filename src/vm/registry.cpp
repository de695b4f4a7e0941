// The pool of region states, the list of live regions, and pinning.
#include <mutex>

#include "sys/signal_safe_calls.hpp"
#include "sys/thread_state.hpp"
#include "vm/address_map.hpp"
#include "vm/dirty_tracker.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

// Leaked on purpose: regions of static storage duration may end after this file's destructors.
struct Registry {
  std::mutex lock;      // guards `live` and `free`
  std::mutex map_lock;  // guards changes of g_address_map; taken last
  std::vector<RegionState*> live;
  std::vector<RegionState*> free;
};

Registry& registry() {
  static auto* const the_registry = new Registry;
  return *the_registry;
}

}  // namespace

RegionState::RegionState() = default;
RegionState::~RegionState() = default;

namespace {
constexpr std::uint64_t kSpin = 30'000;  // ns, a few times what a handler takes
}  // namespace

bool InFlight::wait(std::uint64_t nanoseconds) noexcept {
  const std::uint64_t end = sys::monotonic_nanoseconds() + nanoseconds;
  // RACE a fault reads the phase, is delayed, and enters the counter of a phase that has been
  // waited for already. The second round flips back and waits for that counter too.
  for (int round = 0; round < 2; ++round) {
    const unsigned old = phase_.fetch_xor(1, std::memory_order_seq_cst) & 1;
    // Handlers are short: whoever yields at once may not be back for as long as a turn takes.
    const std::uint64_t spin_until = sys::monotonic_nanoseconds() + kSpin;
    while (count_[old].load(std::memory_order_seq_cst) != 0) {
      const std::uint64_t now = sys::monotonic_nanoseconds();
      if (now > end) return false;
      if (now > spin_until) sys::yield();
    }
  }
  return true;
}

void InFlight::forget() noexcept {
  for (auto& count : count_) count.store(0, std::memory_order_relaxed);
}

Pinned Pinned::find_in_map(const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
  for (;;) {
    RegionState* const state = g_address_map.find(address);
    if (state == nullptr) return {nullptr, 0};
    if (const Pinned::Attempt attempt = try_pin(state, address); attempt.pinned) {
      sys::this_thread().last_region = state;
      return {state, attempt.phase};
    }
    // Ending at this moment, and still in the map: a fault there comes too late.
    if (!state->live.load(std::memory_order_seq_cst)) return {nullptr, 0};
  }
}

RegionState* acquire_state() {
  Registry& all = registry();
  const std::lock_guard guard(all.lock);
  if (all.free.empty()) return new RegionState;
  RegionState* const state = all.free.back();
  all.free.pop_back();
  return state;
}

void release_state(RegionState* state) noexcept {
  state->detach_handle();
  state->tracker = nullptr;
  state->tracker_owner.reset();
  state->channel.reset();
  state->file_owner.reset();
  state->pages = PageStates{};
  state->has_handler.store(false);
  state->declined.store(false);
  state->slots = {};
  state->slot.store(0);
  state->frozen.store(0);
  state->fallback_guards.store(0);
  state->lift_phase.store(LiftPhase::none);
  state->lift_window.store(nullptr);
  state->traps_missing.store(false);
  state->frozen_runs.clear();
  state->key_access.store(static_cast<std::uint32_t>(Access::read_write));
  state->absent_in_child = false;
  state->owns_memory = state->registered = false;
  state->uffd = state->memory_file = state->key = -1;
  state->uffd_mode = state->uffd_ioctls = state->memory_offset = 0;
  state->dirty_form = DirtyForm::none;
  Registry& all = registry();
  const std::lock_guard guard(all.lock);
  all.free.push_back(state);
}

bool register_region(RegionState* state) {
  Registry& all = registry();
  const std::lock_guard guard(all.lock);
  all.live.push_back(state);
  state->attach_handle();
  state->live.store(true, std::memory_order_seq_cst);
  const std::lock_guard map_guard(all.map_lock);
  if (g_address_map.publish(state->range, state)) return true;
  state->live.store(false, std::memory_order_seq_cst);
  all.live.pop_back();
  return false;
}

bool publish_window(RegionState* state, PageRange window) {
  const std::lock_guard guard(registry().map_lock);
  return g_address_map.publish(window, state);
}

void withdraw_window(PageRange window) noexcept {
  const std::lock_guard guard(registry().map_lock);
  g_address_map.withdraw(window);
}

bool overlaps_region(PageRange range) {
  const std::lock_guard guard(registry().map_lock);
  return g_address_map.any_in(range);
}

void unregister_region(RegionState* state) noexcept {
  Registry& all = registry();
  const std::lock_guard guard(all.lock);
  {
    const std::lock_guard map_guard(all.map_lock);
    g_address_map.withdraw(state->range);
  }
  state->live.store(false, std::memory_order_seq_cst);
  // From the back: regions mostly end in reverse order of creation.
  for (std::size_t i = all.live.size(); i-- > 0;) {
    if (all.live[i] != state) continue;
    all.live[i] = all.live.back();
    all.live.pop_back();
    break;
  }
}

void for_each_region(void (*visit)(RegionState&, void*), void* argument) {
  for (RegionState* state : registry().live) visit(*state, argument);
}

void lock_map() noexcept { registry().map_lock.lock(); }
void unlock_map() noexcept { registry().map_lock.unlock(); }
void lock_registry() noexcept { registry().lock.lock(); }
void unlock_registry() noexcept { registry().lock.unlock(); }

}  // namespace v0
}  // namespace pagetrap
