// A signal stack for each thread: a fault on a stack that is used up can be handled on no other.
#pragma once

#include <cstddef>

namespace pagetrap::preload {

/// The room is large since the program's handlers run on it too, and costs what they touch.
inline constexpr std::size_t kAlternateBytes = 256 * 1024;

/// What a new thread is to do.
struct Start {
  void* (*routine)(void*) = nullptr;
  int (*c11_routine)(void*) = nullptr;  // instead
  void* argument = nullptr;
  bool own_stack = false;  // the program gave it one
};

/// Lies at the upper end of its own memory, so that a thread is started without an allocation.
struct AlternateStack {
  Start start;
  int rounds = 0;  // of the destructors at the thread's end
  [[nodiscard]] std::byte* memory() noexcept;
};

/// From those of ended threads, or new. Null: no memory. Threads any; takes no lock.
AlternateStack* take_alternate_stack() noexcept;
void give_back(AlternateStack* stack) noexcept;

/// The calling thread's from now on, unless it has one of its own; until its last destructor.
void use_alternate_stack(AlternateStack* stack) noexcept;
/// The same of the process's first thread, which has one in static storage.
void use_first_alternate_stack() noexcept;
/// Where the calling thread's starts; null: it has none of ours.
const void* own_alternate_stack() noexcept;

}  // namespace pagetrap::preload
