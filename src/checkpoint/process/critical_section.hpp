// Restartable sequences (rseq(2)): a thread stopped inside one begins elsewhere.
#pragma once

#include <sys/types.h>

#include "checkpoint/process/record.hpp"
#include "checkpoint/process/tracee.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// In the process that goes on the kernel leads a thread that was stopped in a critical section to
/// its abort handler. Does the same to the registers of an image.
Result<Done> leave_critical_section(pid_t process, const Thread& thread, Registers& registers);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
