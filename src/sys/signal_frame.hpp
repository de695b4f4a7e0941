// What a signal frame tells about the access that faulted.
#pragma once

#include <ucontext.h>

#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

struct FrameFacts {
  bool write = false;       // the access was a store
  bool translated = false;  // a page-table entry was present (x86 error code bit 0): protection
};

/// Where the interrupted function was.
struct FrameRegisters {
  std::uintptr_t pc = 0;
  std::uintptr_t sp = 0;
  std::uintptr_t bp = 0;  // its frame pointer, if it had one
};
PAGETRAP_API FrameRegisters frame_registers(const void* context) noexcept PAGETRAP_SIGNAL_SAFE;

/// Reads the CPU's error code from a ucontext_t*. On aarch64 the ESR record of the frame.
#if defined(__x86_64__)
inline FrameFacts frame_facts(const void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto code = static_cast<std::uint64_t>(
      static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR]);
  return {(code & 2) != 0, (code & 1) != 0};
}
#else
PAGETRAP_API FrameFacts frame_facts(const void* context) noexcept PAGETRAP_SIGNAL_SAFE;
#endif

}  // namespace pagetrap::sys
