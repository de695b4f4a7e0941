// RegionState: what a Region owns, as the fault path sees it.
//
// Type-stable: states come from a pool and go back to it, but their memory is never given back to
// the allocator, so a fault that found one may always count itself in and look again.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <pagetrap/core/result.hpp>
#include <pagetrap/vm/region.hpp>

#include "sys/fd.hpp"
#include "sys/mapping.hpp"
#include "sys/thread_state.hpp"
#include "vm/backends/operations.hpp"
#include "vm/page_states.hpp"

namespace pagetrap {
inline namespace v0 {

class Channel;
class DirtyTracker;

/// Pages that a freeze without protection keys protected, and what they allowed before.
struct FrozenRun {
  PageRange range;
  PageState before = PageState::read_write;
};

/// Where a lift stands. Faults between the move of the tables and the publication of the window
/// have to wait for the latter.
enum class LiftPhase : std::uint32_t { none, moving, lifted };

/// A handler and its argument, read together.
struct HandlerSlot {
  Handler handler = nullptr;
  void* self = nullptr;
};

/// Counts faults under way, so that destruction and handler changes can wait for them. Two counters
/// and a phase, as in SRCU: a stream of new faults cannot hold up a wait.
class InFlight {
 public:
  /// Returns the phase to leave with.
  unsigned enter() noexcept PAGETRAP_SIGNAL_SAFE {
    const unsigned phase = phase_.load(std::memory_order_acquire) & 1;
    count_[phase].fetch_add(1, std::memory_order_seq_cst);
    return phase;
  }
  void leave(unsigned phase) noexcept PAGETRAP_SIGNAL_SAFE {
    count_[phase].fetch_sub(1, std::memory_order_release);
  }
  /// Wait for all that entered before, at most `nanoseconds`; false if somebody is inside still.
  /// Callers exclude each other; not from inside.
  bool wait(std::uint64_t nanoseconds) noexcept;
  /// In a fork()ed child: the threads that were inside do not exist here, but for the one that
  /// forked.
  void forget() noexcept;
  void enter_again(unsigned phase) noexcept {
    count_[phase].fetch_add(1, std::memory_order_seq_cst);
  }

 private:
  std::atomic<unsigned> phase_{0};
  std::array<std::atomic<std::uint32_t>, 2> count_{};
};

struct alignas(64) RegionState {
  // --- what every fault reads, together (constant while published, but for the atomics)
  PageRange range;
  BackendOperations operations{};  // copied: one page less to touch
  DirtyTracker* tracker = nullptr;
  std::atomic<bool> live{false};  // published; false from withdrawal on
  std::atomic<bool> has_handler{false};
  std::atomic<bool> declined{false};  // uffd-thread: some page is closed since its fault was
  bool liftable = false;
  bool special = false;  // has a key or a tracker, can be lifted or frozen: the long way
  bool channel_protects_unpopulated = false;  // write-protect marks need no page (6.4)
  FaultSet faults;
  int key = -1;                          // protection key; -1: none
  int uffd = -1;                         // of `channel`; -1: none
  std::atomic<std::uint32_t> frozen{0};  // futex word: 1 while frozen
  std::uint64_t uffd_mode = 0;           // UFFDIO_REGISTER_MODE_ bits of this range
  PageStates pages;
  std::atomic<unsigned> slot{0};
  std::array<HandlerSlot, 2> slots;
  InFlight in_flight;
  Region handle;  // what Fault::region points to: a Region that owns nothing

  // --- what some faults read
  std::atomic<LiftPhase> lift_phase{LiftPhase::none};
  std::atomic<std::byte*> lift_window{nullptr};
  std::atomic<bool> traps_missing{false};  // registered for missing faults too, by a lift
  std::atomic<std::uint32_t> key_access{static_cast<std::uint32_t>(Access::read_write)};
  std::atomic<std::uint32_t> thaws{0};          // how many there have been
  std::atomic<bool> parts_thawed{false};        // some pages have lost the key, until the thaw
  std::atomic<std::size_t> fallback_guards{0};  // guards that cost mappings (guard.cpp)
  std::uint64_t uffd_ioctls = 0;                // what the range supports
  int memory_file = -1;                         // memfd or file; -1: none
  std::uint64_t memory_offset = 0;

  // --- set up by Region::create
  RegionOptions options;
  std::string name;
  DirtyForm dirty_form = DirtyForm::none;
  bool owns_memory = false;  // unmapped at the end
  bool registered = false;   // with `uffd`
  std::shared_ptr<Channel> channel;
  std::unique_ptr<DirtyTracker> tracker_owner;
  sys::Descriptor file_owner;
  bool absent_in_child = false;  // ForkPolicy::absent has struck

  // --- control calls, one at a time
  std::mutex control;
  std::vector<FrozenRun> frozen_runs;  // GUARDED_BY(control)
  Access frozen_leaving = Access::read;

  [[nodiscard]] HandlerSlot current_handler() const noexcept PAGETRAP_SIGNAL_SAFE {
    return slots[slot.load(std::memory_order_acquire)];
  }
  [[nodiscard]] bool wants(FaultKind kind) const noexcept PAGETRAP_SIGNAL_SAFE {
    return faults.has(kind);
  }
  /// Whether `address` is in the region, or in the window of its lift.
  [[nodiscard]] bool serves(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
    if (range.contains(address)) [[likely]]
      return true;
    std::byte* const window = lift_window.load(std::memory_order_acquire);
    return window != nullptr && PageRange{window, range.length}.contains(address);
  }
  /// Where in the backing the page at `address` is.
  [[nodiscard]] std::uint64_t offset_of(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
    return memory_offset +
           static_cast<std::uint64_t>(static_cast<const std::byte*>(address) - range.base);
  }
  /// A page's state after its contents are gone.
  [[nodiscard]] PageState empty_state() const noexcept PAGETRAP_SIGNAL_SAFE {
    return wants(FaultKind::missing) ? PageState::missing : PageState::read_write;
  }

  RegionState();
  ~RegionState();
  static RegionState* of(const Region& region) noexcept PAGETRAP_SIGNAL_SAFE {
    return region.state_;
  }
  static Region make_region(RegionState* state) noexcept { return Region(state); }
  void attach_handle() noexcept { handle.state_ = this; }
  void detach_handle() noexcept { handle.state_ = nullptr; }
};

/// A RegionState that the calling fault keeps from ending.
class Pinned {
 public:
  /// The region at `address`, pinned; empty if there is none. Most faults of a thread are in the
  /// region of its last one: no look into the map then.
  static Pinned find(const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
    auto* const last = static_cast<RegionState*>(sys::this_thread().last_region);
    if (last != nullptr) {
      const Attempt attempt = try_pin(last, address);
      if (attempt.pinned) [[likely]]
        return {last, attempt.phase};
    }
    return find_in_map(address);
  }
  ~Pinned() PAGETRAP_SIGNAL_SAFE {
    if (state_ != nullptr) state_->in_flight.leave(phase_);
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  [[nodiscard]] RegionState* get() const noexcept PAGETRAP_SIGNAL_SAFE { return state_; }
  [[nodiscard]] unsigned phase() const noexcept PAGETRAP_SIGNAL_SAFE { return phase_; }

 private:
  Pinned(RegionState* state, unsigned phase) noexcept PAGETRAP_SIGNAL_SAFE : state_(state),
                                                                             phase_(phase) {}
  struct Attempt {
    bool pinned;
    unsigned phase;
  };
  // RACE before enter() the region may have ended, and its state may serve another one by now:
  // states are pooled and their memory is always there. `live` goes false before the wait for
  // in_flight: if it is true now, the wait that ends this region has yet to see this count, and
  // what the state says of its range is true. Both sides are sequentially consistent.
  static Attempt try_pin(RegionState* state, const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
    const unsigned phase = state->in_flight.enter();
    if (state->live.load(std::memory_order_seq_cst) && state->serves(address)) [[likely]]
      return {true, phase};
    state->in_flight.leave(phase);
    return {false, 0};
  }
  static Pinned find_in_map(const void* address) noexcept PAGETRAP_SIGNAL_SAFE;

  RegionState* state_;
  unsigned phase_;
};

/// Guards; see guard.cpp.
Outcome install_guard(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;
Outcome remove_guard(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;
void forget_guards(RegionState& state) noexcept;
/// Adopted memory is given back without guards.
void remove_guards(RegionState& state) noexcept;

/// A fault on a page whose contents are in the window of a lift. True: resolved, or to be retried.
bool restore_lifted(RegionState& state, PageRange page) noexcept PAGETRAP_SIGNAL_SAFE;
/// A missing page that nobody asked to be told of: zeroes, in a lifted region or its window.
bool fill_hole(RegionState& state, PageRange page) noexcept PAGETRAP_SIGNAL_SAFE;

/// The pool, and the list of live regions (for fork).
RegionState* acquire_state();
void release_state(RegionState* state) noexcept;
/// Calls `visit` for each live region. The registry lock is held: no creation or destruction.
void for_each_region(void (*visit)(RegionState&, void*), void* argument);
/// The registry lock, for fork().
void lock_registry() noexcept;
void unlock_registry() noexcept;
/// The lock of the address map alone: taken after a region's own locks.
void lock_map() noexcept;
void unlock_map() noexcept;
/// Publish in / withdraw from the address map and the list of live regions.
bool register_region(RegionState* state);
/// The window of a lift serves faults of its region.
bool publish_window(RegionState* state, PageRange window);
void withdraw_window(PageRange window) noexcept;
/// Whether any live region has pages in `range`.
bool overlaps_region(PageRange range);
void unregister_region(RegionState* state) noexcept;

}  // namespace v0
}  // namespace pagetrap
