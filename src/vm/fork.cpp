// fork(): every lock of the library is held across it, so that the child finds nothing half done,
// and the child's regions are armed again before fork() returns there.
//
// Measured without this: userfaultfd registrations are silently gone in the child (reads find
// zeroes, writes pass), and the inherited descriptor acts on the parent's pages.
// Not covered: clone(2) and vfork(2) called directly. vfork shares the memory and works; a raw
// clone without CLONE_VM runs no handlers and must not touch regions.
#include "vm/fork.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pagetrap/core/signal_safe_text.hpp>

#include "sys/signal_safe_calls.hpp"
#include "sys/userfaultfd.hpp"
#include "vm/address_map.hpp"
#include "vm/channel.hpp"
#include "vm/dirty_tracker.hpp"
#include "vm/dispatch.hpp"
#include "vm/process_files.hpp"
#include "vm/region_state.hpp"
#include "vm/running.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

// Order: a region's own locks first, since their holders take the others.
void before_fork() noexcept {
  lock_installation();
  lock_registry();
  for_each_region(
      [](RegionState& state, void*) {
        state.control.lock();
        if (state.tracker != nullptr) state.tracker->lock.lock();
      },
      nullptr);
  lock_map();
  lock_rings();
  Channel::lock_all();
  lock_broadcast();
}

void unlock_everything() noexcept {
  unlock_broadcast();
  Channel::unlock_all();
  unlock_rings();
  unlock_map();
  for_each_region(
      [](RegionState& state, void*) {
        if (state.tracker != nullptr) state.tracker->lock.unlock();
        state.control.unlock();
      },
      nullptr);
  unlock_registry();
  unlock_installation();
}

// A child whose regions cannot be armed would read zeroes where data should be faulted in. Better
// no child: the message says why.
[[noreturn]] void give_up(const Outcome& outcome) noexcept {
  SignalSafeText line;
  line.text("pagetrap: a fork()ed child could not arm its regions: ").text(outcome.operation);
  line.text(" failed with errno ").decimal(outcome.number).text(" at ").range(outcome.range);
  line.text("\n");
  sys::write_all(STDERR_FILENO, line.view().data(), line.view().size());
  ::abort();
}

void rearm(RegionState& state, void*) {
  // Threads that were inside handlers do not exist here.
  state.in_flight.forget();
  if (state.options.on_fork == ForkPolicy::absent) {
    g_address_map.withdraw(state.range);
    state.live.store(false);
    state.absent_in_child = true;
    return;
  }
  Outcome outcome = state.operations.rearm(state);
  // Tracking beside another backend.
  if (!failed(outcome) && state.uffd >= 0 && !is_userfaultfd(state.operations.id)) {
    if (const int error = sys::uffd_register(state.uffd, state.range, state.uffd_mode))
      outcome = Error{"UFFDIO_REGISTER", error, state.range};
  }
  if (!failed(outcome) && state.tracker != nullptr) outcome = state.tracker->rearm_in_child(state);
  if (failed(outcome)) give_up(outcome);
}

void in_child() noexcept {
  forget_current_thread();
  reopen_process_files_in_child();
  // Locks first: arming uses the same functions as everybody.
  if (const Outcome outcome = Channel::replace_all_in_child(); failed(outcome)) give_up(outcome);
  for_each_region(rearm, nullptr);
  count_own_handlers_again();
  unlock_everything();
}

}  // namespace

Result<bool> prepare_for_forks() {
  static const int error = ::pthread_atfork(before_fork, unlock_everything, in_child);
  if (error != 0) return Error{"pthread_atfork", error};
  return true;
}

}  // namespace v0
}  // namespace pagetrap
