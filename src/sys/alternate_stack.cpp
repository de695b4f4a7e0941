// ASSUMES raw system calls only: see signal_safe_calls.cpp.
#include "sys/alternate_stack.hpp"

#include <sys/syscall.h>

#include <array>
#include <cstddef>

#include "sys/raw_syscall.hpp"

#if defined(__clang__) && __clang_major__ >= 20
#pragma clang diagnostic ignored "-Wfunction-effects"
#endif

namespace pagetrap::sys {
namespace {

constexpr std::size_t kEnough = 32 * 1024;
alignas(64) constinit std::array<std::byte, 64 * 1024> room{};

#if defined(__x86_64__)
void call_on(std::byte* top, void (*work)(void* self) noexcept, void* self) noexcept {
  // What the callee may change is lost, rbx keeps the old stack.
  asm volatile(
      "movq %%rsp, %%rbx\n\t"
      "movq %[top], %%rsp\n\t"
      "call *%[work]\n\t"
      "movq %%rbx, %%rsp"
      : "+D"(self)
      : [top] "r"(top), [work] "r"(work)
      : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc", "xmm0", "xmm1",
        "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
        "xmm13", "xmm14", "xmm15");
}
#else
void call_on(std::byte*, void (*work)(void* self) noexcept, void* self) noexcept { work(self); }
#endif

}  // namespace

stack_t alternate_stack() noexcept PAGETRAP_SIGNAL_SAFE {
  stack_t stack{};
  if (raw_syscall3(SYS_sigaltstack, 0, reinterpret_cast<unsigned long>(&stack), 0) != 0)
    stack.ss_flags = SS_DISABLE;
  return stack;
}

void call_with_room(void (*work)(void* self) noexcept, void* self) noexcept PAGETRAP_SIGNAL_SAFE {
  const stack_t stack = alternate_stack();
  const bool tight = (stack.ss_flags & SS_ONSTACK) != 0 && stack.ss_size < kEnough;
  if (tight) return call_on(room.data() + room.size(), work, self);
  work(self);
}

}  // namespace pagetrap::sys
