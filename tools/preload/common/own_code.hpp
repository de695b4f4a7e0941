// Whether a caller is the shim itself.
#pragma once

#include <cstdint>

// NOLINTBEGIN(readability-identifier-naming,bugprone-reserved-identifier): the linker's names
extern "C" {
extern const char __ehdr_start __attribute__((visibility("hidden")));
extern const char etext __attribute__((visibility("hidden")));
}
// NOLINTEND(readability-identifier-naming,bugprone-reserved-identifier)

namespace pagetrap::preload {

inline bool is_own_code(const void* caller) noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(caller);
  return at >= reinterpret_cast<std::uintptr_t>(&__ehdr_start) &&
         at < reinterpret_cast<std::uintptr_t>(&etext);
}

}  // namespace pagetrap::preload
