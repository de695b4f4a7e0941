#include "sys/frame_layout.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap::sys {

#if defined(__x86_64__)

// SOURCE arch/x86/include/asm/sigframe.h: { char* pretcode; ucontext uc; siginfo info; } and the
// register area wherever uc_mcontext.fpregs points, 64-byte aligned, above the frame.
std::uintptr_t interrupted_stack_pointer(const void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  return static_cast<std::uintptr_t>(
      static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_RSP]);
}

std::uintptr_t signal_restorer(int signal) noexcept {
  struct KernelAction {
    std::uintptr_t handler, flags, restorer, mask;
  } action{};
  // glibc hides sa_restorer; the raw call shows it.
  if (::syscall(SYS_rt_sigaction, signal, nullptr, &action, sizeof action.mask) != 0) return 0;
  return action.restorer;
}

bool is_signal_frame(std::uintptr_t frame) noexcept PAGETRAP_SIGNAL_SAFE {
  constexpr std::uint32_t kMagic1 = 0x46505853;
  constexpr std::size_t kSoftwareReserved = 464;
  constexpr std::uintptr_t kFarthest = 64 * 1024;  // AVX-512 and AMX state together are 11 KiB
  const auto* const context = static_cast<const ucontext_t*>(context_of_frame(frame));
  std::uintptr_t registers = 0;
  if (!read_own_memory(&context->uc_mcontext.fpregs, &registers, sizeof registers)) return false;
  if (registers <= frame || registers - frame > kFarthest || (registers & 63) != 0) return false;
  std::uint32_t magic = 0;
  return read_own_memory(reinterpret_cast<const void*>(registers + kSoftwareReserved), &magic,
                         sizeof magic) &&
         magic == kMagic1;
}

void* context_of_frame(std::uintptr_t frame) noexcept PAGETRAP_SIGNAL_SAFE {
  return reinterpret_cast<void*>(frame + sizeof(std::uintptr_t));
}

#else  // no protection keys there, so nobody asks

std::uintptr_t interrupted_stack_pointer(const void*) noexcept PAGETRAP_SIGNAL_SAFE { return 0; }
std::uintptr_t signal_restorer(int) noexcept { return 0; }
bool is_signal_frame(std::uintptr_t) noexcept PAGETRAP_SIGNAL_SAFE { return false; }
void* context_of_frame(std::uintptr_t) noexcept PAGETRAP_SIGNAL_SAFE { return nullptr; }

#endif

}  // namespace pagetrap::sys
