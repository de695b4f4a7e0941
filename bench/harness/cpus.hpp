// Which CPU a thread runs on.
#pragma once

#include <sched.h>

namespace pagetrap::bench {

/// How many CPUs this process may use.
int cpu_count();

/// Keep the calling thread on the `index`-th CPU that the process may use, counted from the last
/// one (interrupts favour CPU 0) and round again. Threads it makes inherit that.
void pin_to_cpu(int index);

/// Let the calling thread run on all CPUs that the process had at start.
void unpin();

}  // namespace pagetrap::bench
