// SOURCE Intel SDM volume 2: chapter 2 (instruction format), appendix A (opcode maps).
#include "sys/access_width.hpp"

#include <array>

#include "sys/signal_frame.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::sys {
namespace {

struct Prefixes {
  bool operand = false;     // 66
  bool repeat = false;      // f3
  bool repeat_not = false;  // f2
  bool wide = false;        // REX.W
  bool vector = false;      // VEX
  bool vector_256 = false;
  unsigned map = 0;  // 0 one byte, 1 0f, 2 0f38, 3 0f3a
  const unsigned char* opcode = nullptr;
};

Prefixes read_prefixes(const unsigned char* at) noexcept {
  Prefixes found;
  for (;; ++at) {
    if (*at == 0x66) {
      found.operand = true;
    } else if (*at == 0xf3) {
      found.repeat = true;
    } else if (*at == 0xf2) {
      found.repeat_not = true;
    } else if (*at != 0x2e && *at != 0x36 && *at != 0x3e && *at != 0x26 && *at != 0x64 &&
               *at != 0x65 && *at != 0xf0) {
      break;
    }
  }
  unsigned char last = 0;  // of a VEX prefix: W vvvv L pp
  if (*at == 0xc5 || *at == 0xc4) {
    found.vector = true;
    found.map = *at == 0xc5 ? 1 : at[1] & 0x1f;
    last = *at == 0xc5 ? at[1] : at[2];
    at += *at == 0xc5 ? 2 : 3;
    found.vector_256 = (last & 4) != 0;
    found.operand = (last & 3) == 1;
    found.repeat = (last & 3) == 2;
    found.repeat_not = (last & 3) == 3;
  } else {
    if ((*at & 0xf0) == 0x40) found.wide = (*at++ & 8) != 0;
    if (*at == 0x0f) {
      ++at;
      found.map = *at == 0x38 ? 2 : *at == 0x3a ? 3 : 1;
      if (found.map != 1) ++at;
    }
  }
  found.opcode = at;
  return found;
}

unsigned of_operand(const Prefixes& found) noexcept {
  return found.wide ? 8 : found.operand ? 2 : 4;
}

// One-byte opcodes: in most of them bit 0 tells a byte from the operand size.
unsigned one_byte(const Prefixes& found) noexcept {
  const unsigned char code = *found.opcode;
  const bool byte = (code & 1) == 0;
  const unsigned whole = of_operand(found);
  if (code < 0x40 && (code & 7) < 4)
    return byte ? 1 : whole;   // add, or, adc, sbb, and, sub, xor, cmp
  if (code == 0x63) return 4;  // movsxd
  if (code == 0x83) return whole;
  if (code >= 0x80 && code <= 0x8b) return byte ? 1 : whole;  // group 1, test, xchg, mov
  if (code >= 0xa4 && code <= 0xaf) return byte ? 1 : whole;  // movs, cmps, stos, lods, scas
  if (code == 0xc0 || code == 0xd0 || code == 0xd2 || code == 0xc6 || code == 0xf6 || code == 0xfe)
    return 1;
  if (code == 0xc1 || code == 0xd1 || code == 0xd3 || code == 0xc7 || code == 0xf7) return whole;
  if (code == 0xff) return (found.opcode[1] >> 3 & 7) >= 2 ? 8 : whole;  // calls, jumps, push: 8
  if (code == 0x8f) return 8;
  return 0;
}

unsigned two_bytes(const Prefixes& found) noexcept {
  const unsigned char code = *found.opcode;
  const unsigned vector = found.vector_256 ? 32 : 16;
  const unsigned scalar = found.repeat ? 4 : found.repeat_not ? 8 : 0;
  switch (code) {
    case 0x10:
    case 0x11:  // movups, movss, movsd
      return scalar != 0 ? scalar : vector;
    case 0x12:
    case 0x13:
    case 0x16:
    case 0x17:  // movlps, movhps
    case 0xd6:  // movq
      return 8;
    case 0x28:
    case 0x29:
    case 0x2b:
    case 0xe7:  // movaps, movntps, movntdq
      return vector;
    case 0x6f:
    case 0x7f:  // movdqa, movdqu; without a prefix, movq of MMX
      return found.operand || found.repeat || found.vector ? vector : 8;
    case 0x6e:
      return found.wide ? 8 : 4;
    case 0x7e:
      return found.repeat || found.wide ? 8 : 4;
    case 0xb6:
    case 0xbe:
    case 0xb0:
    case 0xc0:  // movzx and movsx of a byte, cmpxchg, xadd
      return 1;
    case 0xb7:
    case 0xbf:
      return 2;
    case 0xaf:
    case 0xb1:
    case 0xc1:
    case 0xc3:
    case 0xa3:
    case 0xab:  // imul, cmpxchg, xadd, movnti, bt, bts
      return of_operand(found);
    case 0xc7:  // cmpxchg8b, cmpxchg16b
      return found.wide ? 16 : 8;
    default:
      break;
  }
  if (code >= 0x40 && code <= 0x4f) return of_operand(found);              // cmov
  if (code >= 0x90 && code <= 0x9f) return 1;                              // setcc
  if (code >= 0x51 && code <= 0x5f) return scalar != 0 ? scalar : vector;  // sqrt to max
  // pcmpeqb and its kin: what string functions read with.
  if ((code >= 0x60 && code <= 0x6d) || (code >= 0x74 && code <= 0x76) || code >= 0xd0)
    return found.operand ? vector : 8;
  return 0;
}

}  // namespace

unsigned access_width_of(const unsigned char* code) noexcept PAGETRAP_SIGNAL_SAFE {
  const Prefixes found = read_prefixes(code);
  if (found.map == 0) return one_byte(found);
  return found.map == 1 ? two_bytes(found) : 0;
}

unsigned access_width(const void* context) noexcept PAGETRAP_SIGNAL_SAFE {
#if defined(__x86_64__)
  std::array<unsigned char, 32> code{};
  const auto* const at = reinterpret_cast<const void*>(frame_registers(context).pc);
  // A jump to nowhere faults at its target. The last instruction of a mapping is left out.
  return read_own_memory(at, code.data(), 16) ? access_width_of(code.data()) : 0;
#else
  static_cast<void>(context);
  return 0;
#endif
}

}  // namespace pagetrap::sys
