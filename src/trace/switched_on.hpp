// The check that costs an event nothing when its kind is off, inlined where it counts.
#pragma once

#include <pagetrap/trace/trace.hpp>

#include "sys/switches.hpp"

namespace pagetrap::trace {
inline namespace v0 {

inline bool switched_on(Kind kind) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t kinds = sys::switches.traced_kinds.load(std::memory_order_relaxed);
  return ((kinds >> static_cast<unsigned>(kind)) & 1) != 0;
}

/// record(), looked at here first.
inline void note(Kind kind, const void* address, std::uint64_t detail) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (switched_on(kind)) [[unlikely]]
    record(kind, address, detail);
}

}  // namespace v0
}  // namespace pagetrap::trace
