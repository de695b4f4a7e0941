// x86-64: every register, the flags and the red zone are the same after a fault as before (hazards
// 16 and 17).
#include <algorithm>
#include <cstddef>

#include "hazards/support.hpp"

namespace pagetrap::hazards {
namespace {

struct Registers {
  std::array<std::uint64_t, 11> general{};             // rbx rcx rdx rsi r8-r14
  alignas(64) std::array<std::uint64_t, 32> vector{};  // xmm0-xmm15
  std::array<std::uint64_t, 16> red_zone{};            // below the stack pointer
  std::uint32_t mxcsr = 0;
  std::uint32_t padding = 0;
  friend bool operator==(const Registers&, const Registers&) = default;
};

static_assert(offsetof(Registers, vector) == 128 && offsetof(Registers, red_zone) == 384 &&
              offsetof(Registers, mxcsr) == 512);

// Loads every register from `in`, stores 1 to `page`, and writes every register to `out`. Naked, so
// that no prologue uses the red zone it tests. rdi in, rsi out, rdx page.
[[gnu::naked, gnu::noinline]] void fault_with(const Registers* /*in*/, Registers* /*out*/,
                                              std::byte* /*page*/) {
  asm volatile(R"(
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsi, %r15          # out
    movq %rdx, %rax          # page
    movq %rdi, %rbp          # in
    .set i, 0
    .rept 16
      movq 384+i*8(%rbp), %rcx
      movq %rcx, -128+i*8(%rsp)
      .set i, i+1
    .endr
    movdqa 128+0(%rbp), %xmm0
    movdqa 128+16(%rbp), %xmm1
    movdqa 128+32(%rbp), %xmm2
    movdqa 128+48(%rbp), %xmm3
    movdqa 128+64(%rbp), %xmm4
    movdqa 128+80(%rbp), %xmm5
    movdqa 128+96(%rbp), %xmm6
    movdqa 128+112(%rbp), %xmm7
    movdqa 128+128(%rbp), %xmm8
    movdqa 128+144(%rbp), %xmm9
    movdqa 128+160(%rbp), %xmm10
    movdqa 128+176(%rbp), %xmm11
    movdqa 128+192(%rbp), %xmm12
    movdqa 128+208(%rbp), %xmm13
    movdqa 128+224(%rbp), %xmm14
    movdqa 128+240(%rbp), %xmm15
    movq 0(%rbp), %rbx
    movq 8(%rbp), %rcx
    movq 16(%rbp), %rdx
    movq 24(%rbp), %rsi
    movq 32(%rbp), %r8
    movq 40(%rbp), %r9
    movq 48(%rbp), %r10
    movq 56(%rbp), %r11
    movq 64(%rbp), %r12
    movq 72(%rbp), %r13
    movq 80(%rbp), %r14
    stc
    movb $1, (%rax)          # the fault
    jnc 9f                   # flags
    movq %rbx, 0(%r15)
    movq %rcx, 8(%r15)
    movq %rdx, 16(%r15)
    movq %rsi, 24(%r15)
    movq %r8, 32(%r15)
    movq %r9, 40(%r15)
    movq %r10, 48(%r15)
    movq %r11, 56(%r15)
    movq %r12, 64(%r15)
    movq %r13, 72(%r15)
    movq %r14, 80(%r15)
    movdqa %xmm0, 128+0(%r15)
    movdqa %xmm1, 128+16(%r15)
    movdqa %xmm2, 128+32(%r15)
    movdqa %xmm3, 128+48(%r15)
    movdqa %xmm4, 128+64(%r15)
    movdqa %xmm5, 128+80(%r15)
    movdqa %xmm6, 128+96(%r15)
    movdqa %xmm7, 128+112(%r15)
    movdqa %xmm8, 128+128(%r15)
    movdqa %xmm9, 128+144(%r15)
    movdqa %xmm10, 128+160(%r15)
    movdqa %xmm11, 128+176(%r15)
    movdqa %xmm12, 128+192(%r15)
    movdqa %xmm13, 128+208(%r15)
    movdqa %xmm14, 128+224(%r15)
    movdqa %xmm15, 128+240(%r15)
    .set i, 0
    .rept 16
      movq -128+i*8(%rsp), %rcx
      movq %rcx, 384+i*8(%r15)
      .set i, i+1
    .endr
    stmxcsr 512(%r15)
  9:
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
  )");
}

std::uint64_t g_seed = 0x9e3779b97f4a7c15;
std::uint64_t random_bits() {
  g_seed ^= g_seed << 13;
  g_seed ^= g_seed >> 7;
  g_seed ^= g_seed << 17;
  return g_seed;
}

// Uses the vector unit and the flags as ordinary code of a handler may.
Verdict open_with_arithmetic(void* self, const Fault& fault) noexcept {
  volatile double sum = 1.0;
  for (int i = 1; i < 20; ++i) sum = sum * 1.5 + 1.0 / i;
  std::array<unsigned char, 256> copied{};
  std::memset(copied.data(), static_cast<int>(sum), copied.size());
  const volatile unsigned char last = copied[255];
  static_cast<void>(last);
  return Opener::open(self, fault);
}

TEST(Registers, AreTheSameAfterAFault) {
  std::printf("seed %#llx\n", static_cast<unsigned long long>(g_seed));
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Region region =
                    must(Region::create(page_size(), options_for(id, FaultKind::write_protected)),
                         "create");
                Opener opener;
                must(region.on_fault(open_with_arithmetic, &opener), "on_fault");
                constexpr int kFaults = 20'000;
                Registers in;
                asm volatile("stmxcsr %0" : "=m"(in.mxcsr));
                for (int i = 0; i < kFaults; ++i) {
                  std::generate(in.general.begin(), in.general.end(), random_bits);
                  std::generate(in.vector.begin(), in.vector.end(), random_bits);
                  std::generate(in.red_zone.begin(), in.red_zone.end(), random_bits);
                  must(region.protect(region.range(), Access::read), "protect");
                  Registers out;
                  fault_with(&in, &out, region.data());
                  require(in == out, "registers, flags, mxcsr and red zone");
                }
                require(opener.faults == kFaults, "every one faulted");
              }));
  }
}

// The wide vector registers ymm0-ymm15, of which the low halves are xmm0-xmm15, and the x87 unit.
struct WideRegisters {
  alignas(32) std::array<std::uint64_t, 64> vector{};
  double top_of_stack = 0;
  friend bool operator==(const WideRegisters&, const WideRegisters&) = default;
};

static_assert(offsetof(WideRegisters, top_of_stack) == 512);

// As fault_with(). rdi in, rsi out, rdx page.
[[gnu::naked, gnu::noinline]] void fault_with_wide(const WideRegisters* /*in*/,
                                                   WideRegisters* /*out*/, std::byte* /*page*/) {
  asm volatile(R"(
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
      vmovdqa 32*\i(%rdi), %ymm\i
    .endr
    fldl 512(%rdi)
    movb $1, (%rdx)          # the fault
    fstpl 512(%rsi)
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
      vmovdqa %ymm\i, 32*\i(%rsi)
    .endr
    vzeroupper
    ret
  )");
}

// As code compiled for such a CPU may leave them.
Verdict open_and_reset_all(void* self, const Fault& fault) noexcept {
  asm volatile("fninit\n vzeroall" ::
                   : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                     "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  return Opener::open(self, fault);
}

TEST(Registers, WideVectorsAndTheX87UnitAreTheSameAfterAFault) {
  if (__builtin_cpu_supports("avx") == 0) GTEST_SKIP() << "this CPU has no AVX";
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Region region =
                    must(Region::create(page_size(), options_for(id, FaultKind::write_protected)),
                         "create");
                Opener opener;
                must(region.on_fault(open_and_reset_all, &opener), "on_fault");
                constexpr int kFaults = 2'000;
                for (int i = 0; i < kFaults; ++i) {
                  WideRegisters in;
                  std::generate(in.vector.begin(), in.vector.end(), random_bits);
                  in.top_of_stack = i + 0.5;
                  must(region.protect(region.range(), Access::read), "protect");
                  WideRegisters out;
                  fault_with_wide(&in, &out, region.data());
                  require(in == out, "all 256 bits of each, and the x87 unit's stack");
                }
                require(opener.faults == kFaults, "every one faulted");
              }));
  }
}

}  // namespace
}  // namespace pagetrap::hazards
