#include "sys/protection_key.hpp"

#include <sys/mman.h>
#include <ucontext.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "sys/injection.hpp"
#include "sys/signal_safe_calls.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace pagetrap::sys {
namespace {

bool probe() noexcept {
#if !defined(__x86_64__)
  return false;  // aarch64 has them since 6.12 (POE); its register is not known here yet
#endif
  const int key = ::pkey_alloc(0, 0);
  if (key < 0) return false;
  ::pkey_free(key);
  return true;
}

#if defined(__x86_64__)
// SOURCE Intel SDM vol. 1 ch. 13 and arch/x86/include/uapi/asm/sigcontext.h: the frame holds an
// XSAVE area in standard format; component 9 is the rights register. Bytes 464..511 are the
// kernel's own (sw_reserved), and the header's bit map is at 512.
constexpr unsigned kSoftwareReserved = 464;
constexpr unsigned kHeader = 512;
constexpr unsigned kComponent = 9;
constexpr std::uint32_t kMagic = 0x46505853;  // FP_XSTATE_MAGIC1

unsigned offset_in_frame() noexcept {
  unsigned size = 0;
  unsigned offset = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid_count(0xd, kComponent, &size, &offset, &c, &d) == 0 || size == 0) return 0;
  return offset;
}

[[gnu::constructor(102)]] void remember_offset() noexcept;
unsigned g_offset = 0;
void remember_offset() noexcept { g_offset = offset_in_frame(); }
#endif

}  // namespace

bool have_protection_keys() noexcept {
  static const bool have = probe();
  return have;
}

int allocate_key() noexcept {
  if (const int error = injected(Call::pkey_alloc)) return -error;
  const int key = ::pkey_alloc(0, 0);
  return key < 0 ? -errno : key;
}

void free_key(int key) noexcept { ::pkey_free(key); }

int tag(PageRange range, int prot, int key) noexcept PAGETRAP_SIGNAL_SAFE {
  return change_protection_and_key(range, prot, key);
}

#if defined(__x86_64__)

std::uint32_t key_rights() noexcept PAGETRAP_SIGNAL_SAFE {
  std::uint32_t rights = 0;
  std::uint32_t ignored = 0;
  asm volatile("rdpkru" : "=a"(rights), "=d"(ignored) : "c"(0));
  return rights;
}

void set_key_rights(std::uint32_t rights) noexcept PAGETRAP_SIGNAL_SAFE {
  asm volatile("wrpkru" : : "a"(rights), "c"(0), "d"(0) : "memory");
}

std::uint32_t* key_rights_in_frame(void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  auto* const state =
      reinterpret_cast<std::byte*>(static_cast<ucontext_t*>(context)->uc_mcontext.fpregs);
  if (state == nullptr || g_offset == 0) return nullptr;
  std::uint32_t magic = 0;
  std::memcpy(&magic, state + kSoftwareReserved, sizeof magic);
  if (magic != kMagic) return nullptr;
  // A component in its initial state is not written to the frame and its bit is clear; the initial
  // rights are 0 then, and the field must be made valid before it is changed.
  std::uint64_t present = 0;
  std::memcpy(&present, state + kHeader, sizeof present);
  auto* const rights = reinterpret_cast<std::uint32_t*>(state + g_offset);
  constexpr std::uint64_t kBit = std::uint64_t{1} << kComponent;
  if ((present & kBit) == 0) {
    *rights = 0;
    present |= kBit;
    std::memcpy(state + kHeader, &present, sizeof present);
  }
  return rights;
}

#else  // no register that we know: have_protection_keys() must not have said yes

std::uint32_t key_rights() noexcept PAGETRAP_SIGNAL_SAFE { return 0; }
void set_key_rights(std::uint32_t) noexcept PAGETRAP_SIGNAL_SAFE {}
std::uint32_t* key_rights_in_frame(void*) noexcept PAGETRAP_SIGNAL_SAFE { return nullptr; }

#endif

}  // namespace pagetrap::sys
