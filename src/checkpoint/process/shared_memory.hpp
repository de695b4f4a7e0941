// Memory that a fork does not freeze: read while nobody writes.
#pragma once

#include <sys/types.h>

#include <vector>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/census.hpp"
#include "checkpoint/process/record.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// What is in a file of memory, without its holes. Errors  those of read(2).
Result<std::vector<Contents>> copy_file(int descriptor);

/// Contents of the record's objects that are mapped, and open nowhere.
Result<Done> copy_mapped_objects(pid_t process, Record& record, ObjectContents& contents);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
