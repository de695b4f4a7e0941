// System calls in flight. The kernel restarts most that a stop interrupts, in the process that goes
// on. Two things are left to us: calls that it would end with EINTR (signal(7), "Interruption of
// system calls and library functions by stop signals"), and what a restored thread has to do.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>

#include "checkpoint/process/tracee.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Remembers, over the cuts of one process, what its threads wait in.
class Waits {
 public:
  /// Lets the thread make a call again that would have ended with EINTR for the stop only.
  /// Changes tracee.registers.
  void restart(pid_t process, Tracee& tracee);
  /// At the end of a stop: what the thread did in it is no part of what it waits in.
  void leave(pid_t process, const Tracee& tracee);
  /// The registers with which a restored thread begins: at the call, if it was in one. A relative
  /// timeout begins anew there, but for calls that keep in memory what is left.
  Registers for_image(const Tracee& tracee);

 private:
  struct Wait {
    std::uint64_t call = 0;
    std::uint64_t instruction = 0;  // rip
    std::uint64_t stack = 0;
    std::uint64_t switches = 0;
    std::uint64_t since_ns = 0;
  };
  std::map<pid_t, Wait> last_;
};

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
