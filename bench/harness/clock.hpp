// Time.
#pragma once

#include <time.h>

namespace pagetrap::bench {

/// Nanoseconds since some start. About 20 to 50 ns a call through the vDSO: batches are made long
/// enough (hundreds of microseconds) that it does not count.
inline double now_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

/// Nanoseconds that `work()` takes.
template <class Work>
double time_ns(Work&& work) {
  const double begin = now_ns();
  work();
  return now_ns() - begin;
}

}  // namespace pagetrap::bench
