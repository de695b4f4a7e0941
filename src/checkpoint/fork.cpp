// fork() while a checkpoint is being made: the child has the memory, whole, and no save.
#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "checkpoint/checkpointer.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

struct ForkList {
  std::mutex lock;
  std::vector<CheckpointerState*> all;
};

ForkList& fork_list() {
  static auto* const the_list = new ForkList;  // leaked: fork() may come after destructors
  return *the_list;
}

// Nobody is half-way through an allocation, and no page is still to come: the threads that do that
// do not exist in the child.
void before_fork() {
  fork_list().lock.lock();
  for (CheckpointerState* const state : fork_list().all) {
    // Its errors are for finish_restore(); a damaged page is a damaged page in the child too.
    if (state->lazy != nullptr) static_cast<void>(state->lazy->wait());
    for (ArenaState* const arena : state->arena_of)
      if (arena != nullptr) arena->lock_all();
  }
}

void unlock_all() {
  for (CheckpointerState* const state : fork_list().all) {
    for (ArenaState* const arena : state->arena_of)
      if (arena != nullptr) arena->unlock_all();
  }
  fork_list().lock.unlock();
}

void in_child() {
  for (CheckpointerState* const state : fork_list().all) {
    if (Save* const save = state->running.exchange(nullptr)) {
      save->abandon_in_child();
      // Its thread held this, and is not here.
      new (&state->control) std::mutex;
    }
    state->last = {};
    if (state->series.joinable()) state->series.detach();
  }
  unlock_all();
}

}  // namespace

std::unique_lock<std::mutex> fork_waits() { return std::unique_lock(fork_list().lock); }

Result<Done> handle_fork() {
  static const int error = ::pthread_atfork(before_fork, unlock_all, in_child);
  if (error != 0) return Error{"pthread_atfork", error};
  return Done{};
}

void add_to_fork_list(CheckpointerState& state) {
  const std::lock_guard guard(fork_list().lock);
  fork_list().all.push_back(&state);
}

void remove_from_fork_list(CheckpointerState& state) noexcept {
  const std::lock_guard guard(fork_list().lock);
  std::erase(fork_list().all, &state);
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
