// What is mapped in this process, from /proc/self/maps. Set-up and debugging; not for the fault
// path.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <pagetrap/core/result.hpp>

namespace pagetrap::sys {

struct MappedRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  bool executable = false;
  bool writable = false;
  std::string name;  // a path, [heap], [stack], [anon:...], or ""
};

/// In the order of their addresses. Other threads may map and unmap meanwhile.
PAGETRAP_API Result<std::vector<MappedRange>> mapped_ranges();

}  // namespace pagetrap::sys
