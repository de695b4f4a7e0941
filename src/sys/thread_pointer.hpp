// Where the C library keeps what belongs to the calling thread.
#pragma once

#include <cstdint>

namespace pagetrap::sys {

/// The address that __rseq_offset counts from (FS base on x86-64, TPIDR_EL0 on aarch64).
inline std::uint64_t thread_pointer() noexcept {
  return reinterpret_cast<std::uint64_t>(__builtin_thread_pointer());
}

}  // namespace pagetrap::sys
