// What calls have left on the stack looks like references.
#pragma once

#include <array>

namespace pagetrap {

/// Overwrites what earlier calls have left below the caller's frame.
[[gnu::noinline]] inline void wipe_stack() {
  std::array<volatile char, 16384> nothing;
  for (volatile char& byte : nothing) byte = 0;
}

}  // namespace pagetrap
