// A measuring process takes the CPU from whoever else wants it, within limits.
#pragma once

#include <string>

#include "harness/question.hpp"

namespace pagetrap::bench {

/// Do what `wanted` asks as far as this user may, and say what came of it. The calling process must
/// lead a session of its own.
///
/// WHY: with automatic scheduling groups (kernel.sched_autogroup_enabled) a CPU is shared between
/// login sessions first, and `nice` counts only within one. Two pinned threads at nice -15 were
/// seen to get one CPU between them because another session was busy; in a session of their own
/// with the group's own nice value, or as SCHED_FIFO, they got two.
std::string apply_scheduling(Scheduling wanted);

}  // namespace pagetrap::bench
