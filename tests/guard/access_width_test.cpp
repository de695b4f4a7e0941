#include "sys/access_width.hpp"

#include <gtest/gtest.h>

#include <array>
#include <initializer_list>

namespace pagetrap::sys {
namespace {

unsigned width(std::initializer_list<unsigned char> bytes) {
  std::array<unsigned char, 32> code{};
  std::copy(bytes.begin(), bytes.end(), code.begin());
  return access_width_of(code.data());
}

// Bytes as `objdump -d` shows them.
TEST(AccessWidth, OfCommonInstructions) {
  EXPECT_EQ(width({0x8b, 0x07}), 4U);                          // mov (%rdi),%eax
  EXPECT_EQ(width({0x48, 0x8b, 0x07}), 8U);                    // mov (%rdi),%rax
  EXPECT_EQ(width({0x66, 0x89, 0x07}), 2U);                    // mov %ax,(%rdi)
  EXPECT_EQ(width({0xc6, 0x07, 0x01}), 1U);                    // movb $1,(%rdi)
  EXPECT_EQ(width({0x48, 0xc7, 0x07, 1, 0, 0, 0}), 8U);        // movq $1,(%rdi)
  EXPECT_EQ(width({0x0f, 0xb6, 0x07}), 1U);                    // movzbl (%rdi),%eax
  EXPECT_EQ(width({0x0f, 0xbf, 0x07}), 2U);                    // movswl (%rdi),%eax
  EXPECT_EQ(width({0x48, 0x63, 0x07}), 4U);                    // movslq (%rdi),%rax
  EXPECT_EQ(width({0xf3, 0xa4}), 1U);                          // rep movsb
  EXPECT_EQ(width({0xf3, 0x48, 0xab}), 8U);                    // rep stosq
  EXPECT_EQ(width({0xf3, 0x0f, 0x10, 0x07}), 4U);              // movss (%rdi),%xmm0
  EXPECT_EQ(width({0xf2, 0x0f, 0x11, 0x07}), 8U);              // movsd %xmm0,(%rdi)
  EXPECT_EQ(width({0x0f, 0x11, 0x07}), 16U);                   // movups %xmm0,(%rdi)
  EXPECT_EQ(width({0x66, 0x0f, 0x6f, 0x07}), 16U);             // movdqa (%rdi),%xmm0
  EXPECT_EQ(width({0x66, 0x0f, 0xd6, 0x07}), 8U);              // movq %xmm0,(%rdi)
  EXPECT_EQ(width({0xc5, 0xfe, 0x6f, 0x07}), 32U);             // vmovdqu (%rdi),%ymm0
  EXPECT_EQ(width({0xc5, 0xfd, 0x74, 0x07}), 32U);             // vpcmpeqb (%rdi),%ymm0,%ymm0
  EXPECT_EQ(width({0xf0, 0x48, 0x0f, 0xc1, 0x07}), 8U);        // lock xadd %rax,(%rdi)
  EXPECT_EQ(width({0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0}), 8U);  // mov %fs:0,%rax
}

TEST(AccessWidth, OfWhatIsNotKnownIsNone) {
  EXPECT_EQ(width({0x90}), 0U);                    // nop
  EXPECT_EQ(width({0x62, 0xf1, 0x7c, 0x48}), 0U);  // EVEX
}

}  // namespace
}  // namespace pagetrap::sys
