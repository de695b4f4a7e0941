#include "sys/first_store.hpp"

#include <ucontext.h>

#include <array>

namespace pagetrap::sys {

#if defined(__x86_64__)

namespace {

// ds movq %rcx, -8(%rdx). The prefix means nothing there, so that compilers leave it out.
constexpr std::array<unsigned char, 5> kInstruction{0x3e, 0x48, 0x89, 0x4a, 0xf8};

std::byte* pointer_in(greg_t value) noexcept PAGETRAP_SIGNAL_SAFE {
  return reinterpret_cast<std::byte*>(value);
}

greg_t as_register(const std::byte* pointer) noexcept PAGETRAP_SIGNAL_SAFE {
  return reinterpret_cast<greg_t>(pointer);
}

}  // namespace

bool is_first_store(const void* context, FirstStore& found) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  const auto* const code = reinterpret_cast<const unsigned char*>(registers[REG_RIP]);
  // Byte by byte: what has matched so far is no whole instruction, so that the next byte was
  // fetched too. The page behind may not be there.
  for (std::size_t i = 0; i < kInstruction.size(); ++i)
    if (code[i] != kInstruction[i]) return false;
  found = {pointer_in(registers[REG_RAX]), pointer_in(registers[REG_RDX])};
  return true;
}

void redirect_first_store(void* context, const FirstStore& instead) noexcept PAGETRAP_SIGNAL_SAFE {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  registers[REG_RAX] = as_register(instead.object);
  registers[REG_RDX] = as_register(instead.next);
}

void skip_first_store(void* context, const FirstStore& instead) noexcept PAGETRAP_SIGNAL_SAFE {
  redirect_first_store(context, instead);
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] +=
      static_cast<greg_t>(kInstruction.size());
}

#else

// Allocations compare and branch there.
bool is_first_store(const void*, FirstStore&) noexcept PAGETRAP_SIGNAL_SAFE { return false; }
void redirect_first_store(void*, const FirstStore&) noexcept PAGETRAP_SIGNAL_SAFE {}
void skip_first_store(void*, const FirstStore&) noexcept PAGETRAP_SIGNAL_SAFE {}

#endif

}  // namespace pagetrap::sys
