// Restartable sequences (rseq(2)): a thread stopped inside one begins elsewhere.
#pragma once

#include <sys/types.h>

#include "checkpoint/process/tracee.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Leads a thread that was stopped in a critical section to its abort handler, as the kernel would
/// when it goes on. To be called before the thread runs an errand: after that the kernel has
/// forgotten, since the errand is in no critical section.
Result<Done> leave_critical_section(pid_t process, Tracee& tracee);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
