// Which backend serves a region's options.
#pragma once

#include <pagetrap/core/result.hpp>
#include <pagetrap/vm/region.hpp>

#include "vm/backends/operations.hpp"

namespace pagetrap {
inline namespace v0 {

const BackendOperations& operations_of(BackendId id) noexcept;

/// Fills in what `options` leaves open (faults, dirty form, backend) or says why nothing can.
Outcome resolve_options(RegionOptions& options);

}  // namespace v0
}  // namespace pagetrap
