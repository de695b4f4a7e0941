#include "checkpoint/process/way_back.hpp"

#include <cpuid.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

// SOURCE arch/x86/include/uapi/asm/sigcontext.h and ucontext.h
struct Frame {
  std::uint64_t return_address = 0;
  std::uint64_t flags = 1 | 2 | 4;  // UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
  std::uint64_t link = 0;
  // An alternate stack that makes no sense: the kernel leaves the one that there is.
  std::array<std::uint64_t, 3> alternate_stack{0, 0x7ffffffe, 0};
  std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, eflags;
  std::uint16_t cs, gs, fs, ss;
  std::uint64_t error = 0, trap = 0, old_mask = 0, fault = 0;
  std::uint64_t extended = 0;  // address
  std::array<std::uint64_t, 8> reserved{};
  std::uint64_t mask = 0;
};
static_assert(sizeof(Frame) == 312);

constexpr std::size_t kExtendedAt = 320;  // in the frame: a multiple of 64
constexpr std::size_t kSoftwareAt = 464;  // in an XSAVE area
constexpr std::size_t kHeaderAt = 512;
constexpr std::uint64_t kTiles = std::uint64_t{3} << 17;  // AMX: of those who asked for it

struct Software {
  std::uint32_t magic = 0x46505853;
  std::uint32_t extended_size = 0;
  std::uint64_t features = 0;
  std::uint32_t size = 0;
  std::array<std::uint32_t, 7> padding{};
};
static_assert(sizeof(Software) == 48);

std::size_t size_with(std::uint64_t features) {
  std::size_t size = 576;
  for (unsigned i = 2; i < 63; ++i) {
    if (((features >> i) & 1) == 0) continue;
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    __cpuid_count(0xd, i, a, b, c, d);
    size = std::max<std::size_t>(size, a + b);
  }
  return size;
}

// A system call that the stop interrupted is made again, as far as a signal frame can say that.
void go_on(Frame& frame, const Registers& registers) {
  const auto result = static_cast<std::int64_t>(registers.rax);
  if (static_cast<std::int64_t>(registers.orig_rax) < 0 || result > -512 || result < -516) return;
  if (registers.orig_rax == SYS_restart_syscall) {
    frame.ax = static_cast<std::uint64_t>(std::int64_t{-EINTR});
    return;
  }
  frame.ax = registers.orig_rax;
  frame.ip -= 2;
}

}  // namespace

std::vector<std::byte> way_back(const Tracee& tracee, std::uint64_t address) {
  const Registers& from = tracee.registers;
  Frame frame{};
  frame.r8 = from.r8;
  frame.r9 = from.r9;
  frame.r10 = from.r10;
  frame.r11 = from.r11;
  frame.r12 = from.r12;
  frame.r13 = from.r13;
  frame.r14 = from.r14;
  frame.r15 = from.r15;
  frame.di = from.rdi;
  frame.si = from.rsi;
  frame.bp = from.rbp;
  frame.bx = from.rbx;
  frame.dx = from.rdx;
  frame.ax = from.rax;
  frame.cx = from.rcx;
  frame.sp = from.rsp;
  frame.ip = from.rip;
  frame.eflags = from.eflags;
  frame.cs = static_cast<std::uint16_t>(from.cs);
  frame.ss = static_cast<std::uint16_t>(from.ss);
  frame.mask = tracee.mask;
  frame.extended = address + kExtendedAt;
  go_on(frame, from);

  std::uint64_t available = 0;
  std::uint64_t in_use = 0;
  std::memcpy(&available, tracee.extended.data() + kSoftwareAt, sizeof available);
  std::memcpy(&in_use, tracee.extended.data() + kHeaderAt, sizeof in_use);
  const std::uint64_t features = (available & ~kTiles) | (in_use & kTiles);
  const std::size_t size = std::min(size_with(features), tracee.extended.size());
  constexpr std::uint32_t kEnd = 0x46505845;
  std::vector<std::byte> bytes(kExtendedAt + size + sizeof kEnd);
  std::memcpy(bytes.data(), &frame, sizeof frame);
  std::memcpy(bytes.data() + kExtendedAt, tracee.extended.data(), size);
  Software software;
  software.extended_size = static_cast<std::uint32_t>(size + sizeof kEnd);
  software.features = features;
  software.size = static_cast<std::uint32_t>(size);
  std::memcpy(bytes.data() + kExtendedAt + kSoftwareAt, &software, sizeof software);
  std::memcpy(bytes.data() + kExtendedAt + size, &kEnd, sizeof kEnd);
  return bytes;
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
