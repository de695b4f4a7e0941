// What only a process itself can ask the kernel for, asked by its stopped threads.
#pragma once

#include <sys/types.h>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/area.hpp"
#include "checkpoint/process/record.hpp"
#include "checkpoint/process/tracee.hpp"
#include "sys/fd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Dispositions, timers, alternate stacks, the program break, and what prctl(2) tells: into a
/// record whose threads and timers are known.
Result<Done> ask_inside(StoppedProcess& stopped, Area& area, Record& record);

/// A child that is the process as it is now, and does nothing: its memory is the frozen copy. It
/// blocks all signals, is in no process group of others', has no descriptors, ends with the tracer,
/// and is its parent's child as the process is.
/// Errors  EAGAIN, ENOMEM of clone(2).
Result<pid_t> freeze_copy(StoppedProcess& stopped, Area& area);

/// A userfaultfd for the memory of the stopped process. Errors  those of userfaultfd(2).
Result<sys::Descriptor> userfaultfd_of(StoppedProcess& stopped, Area& area, int pidfd);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
