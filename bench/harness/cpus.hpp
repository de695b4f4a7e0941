// Which CPU a thread runs on.
#pragma once

#include <sched.h>
#include <sys/types.h>

namespace pagetrap::bench {

/// How many CPUs this process may use.
int cpu_count();

/// Keep the calling thread on the `index`-th CPU that the process may use, counted from the last
/// one (interrupts favour CPU 0) and round again. Threads it makes inherit that.
void pin_to_cpu(int index);

/// The same for a thread of any process.
void pin_thread_to_cpu(pid_t thread, int index);

/// Let the calling thread run on all CPUs that the process had at start.
void unpin();

}  // namespace pagetrap::bench
