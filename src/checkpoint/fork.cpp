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

void before_fork() { fork_list().lock.lock(); }
void in_parent() { fork_list().lock.unlock(); }
void in_child() {
  for (CheckpointerState* const state : fork_list().all) {
    if (Save* const save = state->running.exchange(nullptr)) save->abandon_in_child();
    state->last = {};
  }
  fork_list().lock.unlock();
}

}  // namespace

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
