// fork(): the order of everybody's handlers.
#pragma once

#include <pagetrap/core/result.hpp>

namespace pagetrap::preload {

/// Registers ours around those of the ground floor and of the pager, before any of the program's.
Result<Done> prepare_forks();

}  // namespace pagetrap::preload
