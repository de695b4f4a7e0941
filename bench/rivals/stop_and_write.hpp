// What debuggers do when they save a process (gcore of GDB): all its threads stand still until all
// of its memory is in a file.
#pragma once

#include <sys/types.h>

#include <string>

namespace pagetrap::bench::rivals {

struct StopAndWrite {
  double begin_ns = 0;  // as of now_ns(): the first thread was asked to stop
  double end_ns = 0;    // all of them go on
  double bytes = 0;     // written

  [[nodiscard]] double stop_ns() const noexcept { return end_ns - begin_ns; }
};

/// What it would take at least: pages that are there and not a file's, with no description of them,
/// no registers, and without waiting for the disk. Throws std::system_error: `process` may not be
/// traced, or has ended; it goes on, if it is there.
StopAndWrite stop_and_write(pid_t process, const std::string& path);

}  // namespace pagetrap::bench::rivals
