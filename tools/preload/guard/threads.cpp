// Threads of the program: each has a signal stack, and below its own stack a guard so wide that
// large frames do not jump over it.
#include <pthread.h>
#include <threads.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

#include <pagetrap/core/signal_safe_text.hpp>
#include <pagetrap/guard/stacks.hpp>

#include "common/exported.hpp"
#include "common/own_code.hpp"
#include "common/real.hpp"
#include "guard/alternate_stacks.hpp"
#include "guard/heap.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/thread_stack.hpp"

namespace pagetrap::preload {
namespace {

constinit Real<int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)> real_pthread_create(
    "pthread_create");
constinit Real<int(thrd_t*, thrd_start_t, void*)> real_thrd_create("thrd_create");

// Of a stack that the program made: whatever faults there, it is what the stack ran into.
constexpr std::size_t kBelowOwnStack = guard::kStackGuardBytes;

void watch(bool own_stack) noexcept {
  sys::ThreadStack found;
  if (sys::find_thread_stack(found) != 0) return;
  guard::watch_stack({.low = found.low,
                      .high = found.high,
                      .guard_bytes = own_stack ? kBelowOwnStack : found.guard_bytes,
                      .alternate = own_alternate_stack()});
}

void* run(void* record) {
  auto* const stack = static_cast<AlternateStack*>(record);
  const Start todo = stack->start;
  use_alternate_stack(stack);
  watch(todo.own_stack);
  if (todo.c11_routine == nullptr) return todo.routine(todo.argument);
  const int result = todo.c11_routine(todo.argument);
  return reinterpret_cast<void*>(static_cast<std::intptr_t>(result));
}

/// A copy of what the program asked for, with a wide guard: the C library makes it out of the
/// mapping that its own guard would have had, beyond the size that was asked for.
class Attributes {
 public:
  explicit Attributes(const pthread_attr_t* asked) noexcept {
    if (asked != nullptr) {
      copy_ = *asked;  // what it points to is only read
      known_ = true;
    } else {
      known_ = owned_ = ::pthread_getattr_default_np(&copy_) == 0;
    }
    if (!known_) return;
    void* low = nullptr;
    std::size_t size = 0;
    // Without a stack of its own, the C library computes with an end of 0.
    own_stack_ = ::pthread_attr_getstack(&copy_, &low, &size) == 0 &&
                 reinterpret_cast<std::uintptr_t>(low) + size != 0;
    std::size_t guard = 0;
    wide_ = !own_stack_ && ::pthread_attr_getguardsize(&copy_, &guard) == 0 &&
            guard < guard::kStackGuardBytes &&
            ::pthread_attr_setguardsize(&copy_, guard::kStackGuardBytes) == 0;
  }
  ~Attributes() {
    if (owned_) ::pthread_attr_destroy(&copy_);
  }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  [[nodiscard]] bool wide() const noexcept { return wide_; }
  [[nodiscard]] bool own_stack() const noexcept { return own_stack_; }
  [[nodiscard]] const pthread_attr_t* get() const noexcept { return &copy_; }

 private:
  pthread_attr_t copy_{};
  bool known_ = false;
  bool owned_ = false;
  bool own_stack_ = false;
  bool wide_ = false;
};

void say_unwatched() noexcept {
  constinit static std::atomic<bool> said{false};
  if (said.exchange(true)) return;
  SignalSafeText line;
  line.text(
      "pagetrap: guard: no memory for signal stacks: threads whose stacks overflow just end\n");
  static_cast<void>(sys::write_all(STDERR_FILENO, line.view().data(), line.view().size()));
}

bool watches(const void* caller) noexcept {
  return the_heap.load(std::memory_order_relaxed) != nullptr && !is_own_code(caller);
}

int create(pthread_t* thread, const pthread_attr_t* asked, const Start& start) noexcept {
  AlternateStack* const stack = take_alternate_stack();
  if (stack == nullptr) {
    say_unwatched();
    return -1;
  }
  const Attributes attributes(asked);
  stack->start = start;
  stack->start.own_stack = attributes.own_stack();
  int error = EAGAIN;
  if (attributes.wide()) error = real_pthread_create(thread, attributes.get(), run, stack);
  // A limit on addresses may be why: as it was asked for.
  if (error == EAGAIN || error == ENOMEM) error = real_pthread_create(thread, asked, run, stack);
  if (error != 0) give_back(stack);
  return error;
}

}  // namespace
}  // namespace pagetrap::preload

using namespace pagetrap::preload;

PAGETRAP_EXPORT int pthread_create(pthread_t* thread, const pthread_attr_t* asked,
                                   void* (*routine)(void*), void* argument) noexcept {
  if (watches(__builtin_return_address(0)))
    if (const int error = create(thread, asked, {.routine = routine, .argument = argument});
        error >= 0)
      return error;
  return real_pthread_create(thread, asked, routine, argument);
}

PAGETRAP_EXPORT int thrd_create(thrd_t* thread, thrd_start_t routine, void* argument) {
  if (watches(__builtin_return_address(0))) {
    const int error = create(thread, nullptr, {.c11_routine = routine, .argument = argument});
    if (error == ENOMEM || error == EAGAIN) return thrd_nomem;
    if (error >= 0) return error == 0 ? thrd_success : thrd_error;
  }
  return real_thrd_create(thread, routine, argument);
}
