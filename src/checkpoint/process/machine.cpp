#include "checkpoint/process/machine.hpp"

#include <cpuid.h>
#include <elf.h>

#include <cerrno>
#include <cstring>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

Result<ExtendedFeatures> extended_features() noexcept {
  constexpr unsigned kExtendedLeaf = 0xd;
  constexpr unsigned kOsxsave = 1U << 27;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsxsave) == 0)
    return Error{"the processor's features", ENOTSUP, {}, "XSAVE is missing"};
  unsigned low = 0;
  unsigned high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  __cpuid_count(kExtendedLeaf, 0, a, b, c, d);
  return ExtendedFeatures{std::uint64_t{low} | (std::uint64_t{high} << 32), b};
}

std::array<std::uint64_t, 2> hardware_in(const std::string& auxiliary) {
  std::array<std::uint64_t, 2> hardware{};
  for (std::size_t at = 0; at + sizeof(Elf64_auxv_t) <= auxiliary.size();
       at += sizeof(Elf64_auxv_t)) {
    Elf64_auxv_t entry{};
    std::memcpy(&entry, auxiliary.data() + at, sizeof entry);
    if (entry.a_type == AT_HWCAP) hardware[0] = entry.a_un.a_val;
    if (entry.a_type == AT_HWCAP2) hardware[1] = entry.a_un.a_val;
  }
  return hardware;
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
