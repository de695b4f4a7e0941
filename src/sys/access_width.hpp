// How many bytes an interrupted instruction would have read or written.
#pragma once

#include <cstddef>

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

/// Of the instruction in a ucontext_t. 0: it is not one of those that are known (moves, arithmetic,
/// strings, SSE and AVX moves), or this is not x86-64.
PAGETRAP_API unsigned access_width(const void* context) noexcept PAGETRAP_SIGNAL_SAFE;
/// The same of code as it lies in memory; `code` has at least 16 readable bytes.
PAGETRAP_API unsigned access_width_of(const unsigned char* code) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace pagetrap::sys
