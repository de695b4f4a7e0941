// What of the processor a process's registers depend on.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

struct ExtendedFeatures {
  std::uint64_t features = 0;  // XCR0
  std::uint64_t bytes = 0;     // of a saved set of registers, as ptrace(2) gives it
};
Result<ExtendedFeatures> extended_features() noexcept;

/// AT_HWCAP and AT_HWCAP2 in a copy of /proc/PID/auxv. (getauxval(3) has another AT_HWCAP.)
std::array<std::uint64_t, 2> hardware_in(const std::string& auxiliary);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
