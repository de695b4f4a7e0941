#include "guard/alternate_stacks.hpp"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <new>

#include <pagetrap/core/units.hpp>
#include <pagetrap/guard/stacks.hpp>

#include "common/exported.hpp"
#include "common/own_code.hpp"
#include "common/real.hpp"
#include "guard/heap.hpp"
#include "sys/kernel_abi.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::preload {
namespace {

constexpr std::size_t kRecordBytes = (sizeof(AlternateStack) + 63) & ~std::size_t{63};

constinit Real<int(const stack_t*, stack_t*)> real_sigaltstack("sigaltstack");

/// Ours, for this thread; ss_sp null: it has none.
constinit thread_local stack_t ours_here{};

// Of ended threads. RACE two threads take or give at once: each entry changes hands by an exchange.
constinit std::array<std::atomic<AlternateStack*>, 32> spare{};

// The lowest page is a guard, where the kernel has markers: nothing lies between a mapping and its
// neighbour else.
void guard_lowest_page(std::byte* memory) noexcept {
  static_cast<void>(sys::advise({memory, Pages{1}}, MADV_GUARD_INSTALL));  // without is as well
}

void use(std::byte* memory, std::size_t size) noexcept {
  stack_t current{};
  if (real_sigaltstack(nullptr, &current) != 0 || (current.ss_flags & SS_DISABLE) == 0) return;
  stack_t ours{};
  ours.ss_sp = memory + page_size();
  ours.ss_size = size - page_size();
  if (real_sigaltstack(&ours, nullptr) == 0) ours_here = ours;
}

void leave() noexcept {
  stack_t current{};
  if (real_sigaltstack(nullptr, &current) == 0 && current.ss_sp == ours_here.ss_sp) {
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    static_cast<void>(real_sigaltstack(&none, nullptr));
  }
  ours_here = {};
}

// WHY a key and no thread-local object: destructors of keys run last, and as often as one of them
// asks; the program's may still fault.
void at_end_of_thread(void* record) noexcept;

pthread_key_t key_of_ends() noexcept {
  constinit static std::atomic<unsigned> known{0};  // the key and one
  unsigned key = known.load(std::memory_order_acquire);
  if (key != 0) return key - 1;
  pthread_key_t made{};
  if (::pthread_key_create(&made, at_end_of_thread) != 0) return PTHREAD_KEYS_MAX;
  if (known.compare_exchange_strong(key, made + 1)) return made;
  ::pthread_key_delete(made);  // RACE another thread was first
  return key - 1;
}

void at_end_of_thread(void* record) noexcept {
  auto* const stack = static_cast<AlternateStack*>(record);
  if (++stack->rounds < PTHREAD_DESTRUCTOR_ITERATIONS &&
      ::pthread_setspecific(key_of_ends(), record) == 0)
    return;
  leave();
  guard::watch_stack({});
  give_back(stack);
}

}  // namespace

std::byte* AlternateStack::memory() noexcept {
  return reinterpret_cast<std::byte*>(this) + kRecordBytes - kAlternateBytes;
}

AlternateStack* take_alternate_stack() noexcept {
  for (auto& entry : spare) {
    if (entry.load(std::memory_order_relaxed) == nullptr) continue;
    if (AlternateStack* const stack = entry.exchange(nullptr)) {
      *stack = {};
      return stack;
    }
  }
  void* const memory = ::mmap(nullptr, kAlternateBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  guard_lowest_page(static_cast<std::byte*>(memory));
  return new (static_cast<std::byte*>(memory) + kAlternateBytes - kRecordBytes) AlternateStack;
}

void give_back(AlternateStack* stack) noexcept {
  for (auto& entry : spare) {
    AlternateStack* nothing = nullptr;
    if (entry.compare_exchange_strong(nothing, stack)) return;
  }
  ::munmap(stack->memory(), kAlternateBytes);
}

void use_alternate_stack(AlternateStack* stack) noexcept {
  if (::pthread_setspecific(key_of_ends(), stack) != 0) {
    give_back(stack);  // no key is left: the thread goes on as without us
    return;
  }
  use(stack->memory(), kAlternateBytes - kRecordBytes);
}

void use_first_alternate_stack() noexcept {
  alignas(4096) static constinit std::array<std::byte, kAlternateBytes> memory{};
  guard_lowest_page(memory.data());
  use(memory.data(), memory.size());
  guard::watch_stack({.alternate = ours_here.ss_sp});
}

const void* own_alternate_stack() noexcept { return ours_here.ss_sp; }

}  // namespace pagetrap::preload

using namespace pagetrap::preload;

// The program does not see ours: it finds none, and when it takes its own away, ours is back.
PAGETRAP_EXPORT int sigaltstack(const stack_t* wanted, stack_t* old) noexcept {
  if (ours_here.ss_sp == nullptr || is_own_code(__builtin_return_address(0)))
    return real_sigaltstack(wanted, old);
  const bool none = wanted != nullptr && (wanted->ss_flags & SS_DISABLE) != 0;
  stack_t before{};
  if (const int result = real_sigaltstack(none ? &ours_here : wanted, &before); result != 0)
    return result;
  if (old == nullptr) return 0;
  if (before.ss_sp == ours_here.ss_sp) {
    before = {};
    before.ss_flags = SS_DISABLE;
  }
  *old = before;
  return 0;
}
