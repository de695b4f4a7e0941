// Stopping all threads of a heap, and their stacks.
#pragma once

#include <cstdint>

#include "gc/heap_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// The signal that stops threads, with its handler installed; or the reason why not. `wanted` 0:
/// any that is free.
Result<int> prepare_stop_signal(int wanted);

/// Returns when every attached thread but `self` stands still. Has threads_lock. No malloc between
/// this and resume_all(): a thread may stand still with its lock.
void stop_all(HeapState& heap, const Thread* self) noexcept;
void resume_all(HeapState& heap) noexcept;

/// Calls `visit(word)` for each word on the thread's stack and in its registers. It stands still,
/// or it is the caller, whose `sp` is set.
template <class Visit>
[[gnu::no_sanitize_address, gnu::no_sanitize_thread]] void for_each_word(const std::byte* low,
                                                                         const std::byte* high,
                                                                         Visit visit) noexcept {
  auto at = (reinterpret_cast<std::uintptr_t>(low) + 7) & ~std::uintptr_t{7};
  const auto end = reinterpret_cast<std::uintptr_t>(high);
  for (; at + 8 <= end; at += 8) visit(*reinterpret_cast<const volatile std::uint64_t*>(at));
}

template <class Visit>
void for_each_word_of(const Thread& thread, Visit visit) noexcept {
  const std::byte* low = thread.sp;
  const bool elsewhere = low < thread.stack.low || low >= thread.stack.high;
  if (elsewhere) {
    for_each_word(thread.other_low, thread.other_high, visit);
    // In a signal handler of the program's own nobody knows where the stack ends.
    low = thread.trap_sp != nullptr ? thread.trap_sp : thread.stack.low;
  }
  for_each_word(low, thread.stack.high, visit);
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
