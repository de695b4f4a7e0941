// A memory barrier in every running thread of this process, paid by who asks for it.
#pragma once

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

/// Each thread of this process passes a full barrier between this call's beginning and its end.
/// Returns errno: ENOSYS before Linux 4.14, or EPERM where a sandbox forbids it.
/// SOURCE membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED.
PAGETRAP_API int barrier_in_all_threads() noexcept;

}  // namespace pagetrap::sys
