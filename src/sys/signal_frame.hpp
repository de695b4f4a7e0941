// What a signal frame tells about the access that faulted.
#pragma once

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

struct FrameFacts {
  bool write = false;       // the access was a store
  bool translated = false;  // a page-table entry was present (x86 error code bit 0): protection
};

/// Reads the CPU's error code from a ucontext_t*. On aarch64 the ESR record of the frame.
PAGETRAP_API FrameFacts frame_facts(const void* context) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace pagetrap::sys
