#include "sys/signal_frame.hpp"

#include <ucontext.h>

#include <cstdint>
#include <cstring>

namespace pagetrap::sys {

#if defined(__x86_64__)

FrameRegisters frame_registers(const void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  return {static_cast<std::uintptr_t>(registers[REG_RIP]),
          static_cast<std::uintptr_t>(registers[REG_RSP]),
          static_cast<std::uintptr_t>(registers[REG_RBP])};
}

#elif defined(__aarch64__)

FrameRegisters frame_registers(const void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
  return {machine.pc, machine.sp, machine.regs[29]};
}

[[gnu::hot]] FrameFacts frame_facts(const void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  // SOURCE arch/arm64/include/uapi/asm/sigcontext.h: records {magic, size} until magic 0; ESR bit 6
  // is WnR, fault status 0b0011xx is a permission fault.
  constexpr std::uint32_t kEsrMagic = 0x45535201;
  const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
  const unsigned char* record = machine.__reserved;
  for (std::size_t offset = 0; offset + 8 <= sizeof machine.__reserved;) {
    std::uint32_t head[2];
    std::memcpy(head, record + offset, sizeof head);
    if (head[0] == kEsrMagic) {
      std::uint64_t esr = 0;
      std::memcpy(&esr, record + offset + 8, sizeof esr);
      return {(esr & (1U << 6)) != 0, (esr & 0x3c) == 0x0c};
    }
    if (head[0] == 0 || head[1] == 0) break;
    offset += head[1];
  }
  return {};
}

#else
#error "pagetrap: tell sys/signal_frame.cpp how this CPU reports a store"
#endif

}  // namespace pagetrap::sys
