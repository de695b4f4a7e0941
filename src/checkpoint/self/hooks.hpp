// What checkpoint() and the thread for hooks have in common.
#pragma once

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// Returns when the hooks after the last cut, or after the restart, have run.
void wait_for_hooks();

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
