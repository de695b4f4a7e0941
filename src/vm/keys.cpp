#include "vm/keys.hpp"

#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <cstring>

#include <pagetrap/vm/freeze.hpp>

#include "sys/frame_layout.hpp"
#include "sys/protection_key.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/switches.hpp"
#include "sys/thread_state.hpp"
#include "vm/dispatch.hpp"
#include "vm/outer_frames.hpp"
#include "vm/running.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

std::uint32_t denied_by(Access access) noexcept PAGETRAP_SIGNAL_SAFE {
  if (access == Access::read_write) return 0;
  return access == Access::read ? sys::kDenyWrite : sys::kDenyAll;
}

Access allowed(const RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE {
  return static_cast<Access>(state.key_access.load(std::memory_order_seq_cst));
}

// What the region of each key allows: two bits each, as in the rights register.
constinit std::atomic<std::uint32_t> g_denied{0};

void allow(RegionState& state, Access access) noexcept PAGETRAP_SIGNAL_SAFE {
  state.key_access.store(static_cast<std::uint32_t>(access), std::memory_order_seq_cst);
  std::uint32_t before = g_denied.load();
  while (!g_denied.compare_exchange_weak(before,
                                         sys::with_key(before, state.key, denied_by(access)))) {
  }
}

bool has_window(int key) noexcept PAGETRAP_SIGNAL_SAFE {
  return sys::this_thread().windows[static_cast<std::size_t>(key)] != 0;
}

void set_own_rights(const RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint32_t deny = has_window(state.key) ? 0 : denied_by(allowed(state));
  sys::set_key_rights(sys::with_key(sys::key_rights(), state.key, deny));
}

void set_rights_in_frame(const RegionState& state, void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  std::uint32_t* const rights = sys::key_rights_in_frame(context);
  if (rights != nullptr) *rights = sys::with_key(*rights, state.key, denied_by(allowed(state)));
}

bool lacks_access(std::uint32_t rights, int key) noexcept PAGETRAP_SIGNAL_SAFE {
  return (sys::rights_of(rights, key) & sys::kDenyAccess) != 0;
}

struct Frames {
  const RegionState* state;
  unsigned count;
};

// Broadcast: take the rights away from one thread, wherever it is. Inside signal handlers it has
// more than one saved register: the one of this frame, and one in the frame of each handler that it
// will return from, which would bring the old rights back.
void restrict_thread(void* self, void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto& state = *static_cast<const RegionState*>(self);
  if (has_window(state.key)) return;
  sys::ThreadState& thread = sys::this_thread();
  const std::uint32_t* const rights = sys::key_rights_in_frame(context);
  // Access denied is what the kernel gives to signal handlers (and what a thread has that never
  // touched the region: looking for frames then finds none). A handler that did touch it has been
  // given the right since, and that is remembered.
  const bool in_handler = thread.handlers_with_keys != 0 || thread.granted_in_handler ||
                          rights == nullptr || lacks_access(*rights, state.key);
  if (in_handler) {
    Frames frames{&state, 0};
    for_each_outer_frame(
        sys::interrupted_stack_pointer(context),
        [](void* argument, void* frame) noexcept PAGETRAP_SIGNAL_SAFE {
          auto& found = *static_cast<Frames*>(argument);
          set_rights_in_frame(*found.state, frame);
          ++found.count;
        },
        &frames);
    if (frames.count == 0) thread.granted_in_handler = false;
  }
  set_rights_in_frame(state, context);
}

struct Restriction {
  RegionState* state;
  Outcome outcome;
};

void broadcast_restriction(void* self) {
  auto* const restriction = static_cast<Restriction*>(self);
  const auto done = for_every_other_thread(restrict_thread, restriction->state);
  if (!done) restriction->outcome = done.error();
}

}  // namespace

void KeysOpenInHandler::open(std::uint32_t bits) noexcept PAGETRAP_SIGNAL_SAFE {
  opened_ = true;
  // Stays counted if the handler is left by siglongjmp. The only effect is a look for outer frames
  // that finds none.
  ++sys::this_thread().handlers_with_keys;
  sys::set_key_rights(sys::key_rights() & ~bits);
}

void keys_as_allowed() noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint32_t bits = sys::switches.region_key_bits.load(std::memory_order_relaxed);
  if (bits == 0) [[likely]]
    return;
  // RACE a broadcast between reading what is allowed and writing the register: read again after.
  std::uint32_t before = 0;
  do {
    before = g_denied.load(std::memory_order_seq_cst);
    sys::set_key_rights((sys::key_rights() & ~bits) | (before & bits));
    std::atomic_signal_fence(std::memory_order_seq_cst);
  } while (g_denied.load(std::memory_order_seq_cst) != before);
}

Outcome attach_key(RegionState& state) {
  if (!sys::have_protection_keys())
    return Error{"pkey_alloc", ENOTSUP, {}, "this CPU or kernel has no protection keys"};
  const int key = sys::allocate_key();
  if (key < 0)
    return Error{"pkey_alloc", -key, {}, "a process has 15 protection keys, all are in use"};
  if (const int error = sys::tag(state.range, PROT_READ | PROT_WRITE, key)) {
    sys::free_key(key);
    return Error{"pkey_mprotect", error, state.range};
  }
  state.key = key;
  allow(state, Access::read_write);
  sys::switches.region_key_bits.fetch_or(sys::with_key(0, key, sys::kDenyAll));
  return kDone;
}

void detach_key(RegionState& state) noexcept {
  if (state.key < 0) return;
  // A freed key must not stay on pages: its next owner would govern them.
  if (!state.owns_memory) sys::tag(state.range, PROT_READ | PROT_WRITE, 0);
  sys::switches.region_key_bits.fetch_and(~sys::with_key(0, state.key, sys::kDenyAll));
  sys::free_key(state.key);
  state.key = -1;
}

Outcome restrict_key(RegionState& state, Access access) noexcept PAGETRAP_SIGNAL_SAFE {
  allow(state, access);
  set_own_rights(state);
  if (__libc_single_threaded != 0) return kDone;
  if (inside_handler())
    return Error{"protect", EDEADLK, state.range,
                 "taking rights away from other threads is not possible inside a fault handler"};
  // Not inside a handler of ours, so this is an ordinary call: it may lock and allocate. A foreign
  // signal handler must not come here, and Region::protect says so.
  Restriction restriction{&state, kDone};
  sys::call_unproved(broadcast_restriction, &restriction);
  return restriction.outcome;
}

Outcome open_key(RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE {
  allow(state, Access::read_write);
  set_own_rights(state);
  return kDone;
}

void apply_key_access(const RegionState& state, void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  if (has_window(state.key)) return;
  const std::uint32_t* const rights = sys::key_rights_in_frame(context);
  if (rights != nullptr && lacks_access(*rights, state.key))
    sys::this_thread().granted_in_handler = true;
  // RACE a restriction between the load of key_access and the store into the frame: its broadcast
  // corrects the frame (it sees handlers_with_keys and looks for this frame), then the stale store
  // here undoes that. Reading again after the store closes it: either this sees the new access, or
  // the broadcast comes after the store.
  Access before;
  do {
    before = allowed(state);
    set_rights_in_frame(state, context);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  } while (allowed(state) != before);
}

void wait_for_thaw(RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE {
  while (state.frozen.load(std::memory_order_acquire) != 0) sys::futex_wait(state.frozen, 1);
}

bool resolve_key_fault(RegionState& state, Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  const Access now = allowed(state);
  const bool permitted = now == Access::read_write || (now == Access::read && !fault.write);
  if (!permitted) {
    fault.kind = now == Access::none ? FaultKind::no_access : FaultKind::write_protected;
    const Verdict verdict = deliver(state, fault);
    if (verdict == Verdict::not_mine) return false;
    if (verdict == Verdict::retry && fault.frozen) wait_for_thaw(state);
  }
  apply_key_access(state, fault.context);
  return true;
}

void open_window(const RegionState& state) noexcept {
  ++sys::this_thread().windows[static_cast<std::size_t>(state.key)];
  // A broadcast between the two lines leaves the register alone, and it is set here.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  set_own_rights(state);
}

void close_window(const RegionState& state) noexcept {
  --sys::this_thread().windows[static_cast<std::size_t>(state.key)];
  std::atomic_signal_fence(std::memory_order_seq_cst);
  // RACE a broadcast between reading key_access and writing the register: read again after.
  Access before;
  do {
    before = allowed(state);
    set_own_rights(state);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  } while (allowed(state) != before);
}

}  // namespace v0
}  // namespace pagetrap
