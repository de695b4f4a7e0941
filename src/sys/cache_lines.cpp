#include "sys/cache_lines.hpp"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace pagetrap::sys {
namespace {

struct Way {
  const char* name = nullptr;
  std::size_t line = 64;
  void (*write_back)(const std::byte* line) noexcept = nullptr;
};

#if defined(__x86_64__)

// SOURCE Intel SDM: CLWB and CLFLUSHOPT are ordered by SFENCE, CLFLUSH by itself.
void clwb(const std::byte* line) noexcept { asm volatile("clwb %0" ::"m"(*line) : "memory"); }
void clflushopt(const std::byte* line) noexcept {
  asm volatile("clflushopt %0" ::"m"(*line) : "memory");
}
void clflush(const std::byte* line) noexcept { asm volatile("clflush %0" ::"m"(*line) : "memory"); }
void fence() noexcept { asm volatile("sfence" ::: "memory"); }

Way find_way() noexcept {
  constexpr unsigned kClflush = 1U << 19;     // leaf 1, edx
  constexpr unsigned kClflushopt = 1U << 23;  // leaf 7, ebx
  constexpr unsigned kClwb = 1U << 24;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  Way way;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (d & kClflush) == 0) return way;
  way = {"clflush", (b >> 8 & 0xff) * std::size_t{8}, clflush};
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return way;
  if ((b & kClflushopt) != 0) way = {"clflushopt", way.line, clflushopt};
  if ((b & kClwb) != 0) way = {"clwb", way.line, clwb};
  return way;
}

#elif defined(__aarch64__)

// SOURCE Arm ARM: DC CVAP (Armv8.2), written as the SYS instruction that older assemblers know.
void dc_cvap(const std::byte* line) noexcept {
  asm volatile("sys #3, c7, c12, #1, %0" ::"r"(line) : "memory");
}
void fence() noexcept { asm volatile("dsb sy" ::: "memory"); }

Way find_way() noexcept {
  constexpr unsigned long kDcpop = 1UL << 16;
  if ((::getauxval(AT_HWCAP) & kDcpop) == 0) return {};
  std::uint64_t type = 0;
  asm volatile("mrs %0, ctr_el0" : "=r"(type));
  return {"dc cvap", std::size_t{4} << (type >> 16 & 0xf), dc_cvap};
}

#else

void fence() noexcept {}
Way find_way() noexcept { return {}; }

#endif

const Way& way() noexcept {
  static const Way found = find_way();
  return found;
}

}  // namespace

const char* cache_line_instruction() noexcept { return way().name; }

void write_back_cache_lines(const void* address, std::size_t length) noexcept {
  const Way& found = way();
  const auto begin = reinterpret_cast<std::uintptr_t>(address) & ~(found.line - 1);
  const auto end = reinterpret_cast<std::uintptr_t>(address) + length;
  for (std::uintptr_t at = begin; at < end; at += found.line)
    found.write_back(reinterpret_cast<const std::byte*>(at));
  fence();
}

}  // namespace pagetrap::sys
