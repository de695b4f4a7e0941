#include "harness/scheduling.hpp"

#include <sched.h>
#include <sys/resource.h>

#include <fstream>

namespace pagetrap::bench {

namespace {

/// Whether the kernel keeps a share of each CPU for ordinary processes, however busy the real-time
/// ones are. Without it a measurement that hangs would take its CPUs away for good.
bool real_time_is_throttled() {
  long runtime = -1;
  long period = 0;
  std::ifstream("/proc/sys/kernel/sched_rt_runtime_us") >> runtime;
  std::ifstream("/proc/sys/kernel/sched_rt_period_us") >> period;
  return runtime >= 0 && runtime < period;
}

bool become_real_time() {
  if (!real_time_is_throttled()) return false;
  sched_param lowest{};
  lowest.sched_priority = sched_get_priority_min(SCHED_FIFO);
  return sched_setscheduler(0, SCHED_FIFO, &lowest) == 0;
}

bool lift_own_group() {
  std::ofstream group("/proc/self/autogroup");
  group << "-19" << std::flush;
  return group.good();
}

}  // namespace

std::string apply_scheduling(Scheduling wanted) {
  if (wanted == Scheduling::real_time && become_real_time()) return "SCHED_FIFO, lowest priority";
  // Counts where there are no automatic groups; harmless where there are.
  const bool lifted_process = setpriority(PRIO_PROCESS, 0, -19) == 0;
  if (lift_own_group()) return "own session, autogroup nice -19";
  if (lifted_process) return "own session, nice -19";
  return "own session";
}

}  // namespace pagetrap::bench
