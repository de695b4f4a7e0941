// backtrace: the stack of who calls it, fast enough to be kept for every allocation.
#pragma once

#include <cstddef>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// Puts return addresses into `frames`, innermost first: where this call returns to, and so on.
/// Returns how many. Works without frame pointers, from .eh_frame; on x86-64.
/// Signals safe: allocates nothing, takes no lock.  Threads any.
/// Cost    a few ns a frame that was met before; a microsecond for a new one.
PAGETRAP_API std::size_t backtrace(void** frames, std::size_t most) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
