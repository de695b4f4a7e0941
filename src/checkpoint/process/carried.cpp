// What runs in other processes. It may use nothing but its arguments and its stack: no function, no
// constant and no jump table outside of its section, which CMake's options for this file see to.
#include "checkpoint/process/calls.hpp"

namespace {
using pagetrap::checkpoint::process::Call;
}

extern "C" {
[[gnu::section("pagetrap_carry"), gnu::noinline, gnu::used]] void pagetrap_carried(
    Call* first) noexcept;
extern const std::byte __start_pagetrap_carry __attribute__((visibility("hidden")));
extern const std::byte __stop_pagetrap_carry __attribute__((visibility("hidden")));
}

void pagetrap_carried(Call* first) noexcept {
  namespace steps = pagetrap::checkpoint::process;
  for (Call* call = first;; ++call) {
    const std::int64_t number = call->number;
    if (number == steps::kStop) {
      asm volatile("int3" : : "a"(call) : "memory");
      continue;
    }
    if (number == steps::kJump || (number == steps::kJumpIfZero && call[-1].result == 0)) {
      call = first + call->arguments[0] - 1;
      continue;
    }
    if (number == steps::kJumpIfZero) continue;
    if (number == steps::kReport) {
      std::int64_t process = 39;  // getpid
      asm volatile("syscall" : "+a"(process) : : "rcx", "r11", "memory");
      std::int64_t thread = 186;  // gettid
      asm volatile("syscall" : "+a"(thread) : : "rcx", "r11", "memory");
      std::int64_t tell = 234;  // tgkill
      asm volatile("syscall"
                   : "+a"(tell)
                   : "D"(process), "S"(thread), "d"(call->arguments[0])
                   : "rcx", "r11", "memory");
      asm volatile("mov %0, %%rsp\n\tmov $15, %%eax\n\tsyscall\n\tud2"  // rt_sigreturn
                   :
                   : "r"(call->arguments[1])
                   : "memory");
    }
    std::int64_t result = number;
    if (number == steps::kThread) {
      // The new thread has another stack, and begins with the list it was given.
      register std::uint64_t list asm("r12") = call->arguments[2];
      result = 435;  // clone3
      asm volatile(
          "syscall\n\t"
          "test %%rax, %%rax\n\t"
          "jnz 1f\n\t"
          "xor %%ebp, %%ebp\n\t"
          "mov %%r12, %%rdi\n\t"
          "lea pagetrap_carried(%%rip), %%rax\n\t"
          "call *%%rax\n\t"
          "1:"
          : "+a"(result)
          : "D"(call->arguments[0]), "S"(call->arguments[1]), "r"(list)
          : "rcx", "r11", "memory");
    } else {
      const std::uint64_t one =
          call->take != 0 ? std::uint64_t(first[call->take - 1].result) : call->arguments[0];
      register std::uint64_t four asm("r10") = call->arguments[3];
      register std::uint64_t five asm("r8") = call->arguments[4];
      register std::uint64_t six asm("r9") = call->arguments[5];
      asm volatile("syscall"
                   : "+a"(result)
                   : "D"(one), "S"(call->arguments[1]), "d"(call->arguments[2]), "r"(four),
                     "r"(five), "r"(six)
                   : "rcx", "r11", "memory");
    }
    call->result = result;
    while (result < 0 && result > -4096 && call->may_fail == 0)
      asm volatile("int3" : : "a"(call) : "memory");
  }
}

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

CarriedCode carried_code() noexcept {
  const std::byte* const begin = &__start_pagetrap_carry;
  const std::byte* const end = &__stop_pagetrap_carry;
  return {{begin, static_cast<std::size_t>(end - begin)},
          static_cast<std::size_t>(reinterpret_cast<const std::byte*>(&pagetrap_carried) - begin)};
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
