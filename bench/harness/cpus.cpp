#include "harness/cpus.hpp"

#include <vector>

namespace pagetrap::bench {

namespace {

const cpu_set_t& allowed_at_start() {
  static const cpu_set_t kAllowed = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    return set;
  }();
  return kAllowed;
}

}  // namespace

int cpu_count() { return CPU_COUNT(&allowed_at_start()); }

void pin_thread_to_cpu(pid_t thread, int index) {
  std::vector<int> allowed;
  for (int cpu = CPU_SETSIZE - 1; cpu >= 0; --cpu) {
    if (CPU_ISSET(cpu, &allowed_at_start())) allowed.push_back(cpu);
  }
  if (allowed.empty()) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(allowed[static_cast<unsigned>(index) % allowed.size()], &one);
  sched_setaffinity(thread, sizeof one, &one);
}

void pin_to_cpu(int index) { pin_thread_to_cpu(0, index); }

void unpin() { sched_setaffinity(0, sizeof(cpu_set_t), &allowed_at_start()); }

}  // namespace pagetrap::bench
