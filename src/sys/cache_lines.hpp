// Writing cache lines back to memory that keeps its contents without power.
#pragma once

#include <cstddef>

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

/// The instruction this processor has for it, the best of them ("clwb", "clflushopt", "clflush",
/// "dc cvap"), or null.
PAGETRAP_API const char* cache_line_instruction() noexcept;

/// Returns when `length` bytes at `address`, as this thread has written them, have left the caches.
/// Precondition: there is an instruction.
PAGETRAP_API void write_back_cache_lines(const void* address, std::size_t length) noexcept;

}  // namespace pagetrap::sys
