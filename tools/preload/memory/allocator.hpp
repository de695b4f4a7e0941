#pragma once

namespace pagetrap::preload {

/// From now on malloc tells the C library's calls from the program's.
void learn_callers() noexcept;

}  // namespace pagetrap::preload
