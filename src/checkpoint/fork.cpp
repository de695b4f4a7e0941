// fork() while a checkpoint is being made: the child has the memory, whole, and no save.
#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "checkpoint/arena.hpp"
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

template <class Change>
void for_each_arena(Change change) {
  for (CheckpointerState* const state : fork_list().all)
    for (ArenaState* const arena : state->arena_of)
      if (arena != nullptr) change(*arena);
}

// The arenas' locks as well: no allocation is half done in the child, and no cut half taken. And no
// page is still to come: the threads that bring it do not exist there.
void before_fork() {
  fork_list().lock.lock();
  // Its errors are for finish_restore(); a damaged page is one in the child too.
  for (CheckpointerState* const state : fork_list().all)
    if (state->lazy != nullptr) static_cast<void>(state->lazy->wait());
  for_each_arena([](ArenaState& arena) { arena.lock_all(); });
}
void in_parent() {
  for_each_arena([](ArenaState& arena) { arena.unlock_all(); });
  fork_list().lock.unlock();
}
void in_child() {
  for_each_arena([](ArenaState& arena) { arena.unlock_all(); });
  for (CheckpointerState* const state : fork_list().all) {
    if (Save* const save = state->running.exchange(nullptr)) save->abandon_in_child();
    state->last = {};
    // The thread that saved may have been changing the list: it is forgotten, not destroyed.
    new (&state->last_files) std::vector<std::filesystem::path>;
    // A thread that was changing a unit's state is not here: none is known to be protected.
    for (const auto& territory : state->territories) territory->forget_images();
    // Whoever held these is not here, nor the thread of the series.
    new (&state->control) std::mutex;
    new (&state->series_lock) std::mutex;
    new (&state->series_changed) std::condition_variable;
    new (&state->series) std::thread;  // not detach(): its stack may be another thread's by now
  }
  fork_list().lock.unlock();
}

}  // namespace

std::unique_lock<std::mutex> fork_waits() { return std::unique_lock(fork_list().lock); }

Result<Done> handle_fork() {
  static const int error = ::pthread_atfork(before_fork, in_parent, in_child);
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
