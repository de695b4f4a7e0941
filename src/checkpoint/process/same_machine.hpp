// Whether a process can go on here: the machine, the kernel, the files.
#pragma once

#include <string>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/census.hpp"
#include "checkpoint/process/record.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// What stands in the way of a restart, a line each. `any_files`: files may have changed.
Result<Done> look_for_differences(const Record& record, bool any_files, Refusals& refusals);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
