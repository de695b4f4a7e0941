#include "checkpoint/process/waits.hpp"

#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>

#include "checkpoint/process/proc_files.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

// Kernel-internal results; SOURCE include/linux/errno.h.
constexpr std::int64_t kRestartSystemCall = -512;
constexpr std::int64_t kRestartNoIntr = -513;
constexpr std::int64_t kRestartNoHandler = -514;
constexpr std::int64_t kRestartBlock = -516;
constexpr std::uint64_t kNoCall = ~std::uint64_t{0};
constexpr std::uint64_t kInstructionBytes = 2;  // of `syscall`

// Those of signal(7) that fail with EINTR though no handler ran.
bool ends_for_nothing(std::uint64_t call) {
  return call == SYS_epoll_wait || call == SYS_epoll_pwait || call == 441 /* epoll_pwait2 */ ||
         call == SYS_rt_sigtimedwait || call == SYS_semtimedop || call == SYS_io_getevents;
}

// A wait that went on from one cut to the next gives up the processor for that and for the stop.
constexpr std::uint64_t kSwitchesOfOneWait = 2;

std::uint64_t switches_of(pid_t process, pid_t thread) {
  const auto status = read_whole(proc_path(process, "task/" + std::to_string(thread) + "/status"));
  return status ? Fields(*status).number("voluntary_ctxt_switches") : 0;
}

void repeat(Registers& registers, std::uint64_t call) {
  registers.rip -= kInstructionBytes;
  registers.rax = call;
  registers.orig_rax = kNoCall;
}

}  // namespace

void Waits::restart(pid_t process, Tracee& tracee) {
  Registers& registers = tracee.registers;
  const std::uint64_t call = registers.orig_rax;
  // Only of these it has to be known how long they are going on.
  if (call == kNoCall ||
      (static_cast<std::int64_t>(registers.rax) != kRestartBlock && !ends_for_nothing(call))) {
    last_.erase(tracee.thread);
    return;
  }
  Wait now{call, registers.rip, registers.rsp, switches_of(process, tracee.thread),
           sys::monotonic_nanoseconds()};
  const auto before = last_.find(tracee.thread);
  const bool the_same = before != last_.end() && before->second.instruction == now.instruction &&
                        before->second.stack == now.stack &&
                        now.switches - before->second.switches <= kSwitchesOfOneWait;
  // restart_syscall(2) has taken the number's place in a wait that was interrupted before.
  if (call == SYS_restart_syscall && the_same) now.call = before->second.call;
  if (ends_for_nothing(call) && static_cast<std::int64_t>(registers.rax) == -EINTR) {
    const auto timeout = static_cast<std::int32_t>(registers.r10);  // ms, of the epoll calls
    const bool in_register = call == SYS_epoll_wait || call == SYS_epoll_pwait;
    if (in_register && timeout > 0 && the_same) {
      const std::uint64_t waited = (now.since_ns - before->second.since_ns) / 1'000'000;
      registers.r10 = static_cast<std::uint64_t>(
          std::max<std::int64_t>(0, timeout - static_cast<std::int64_t>(waited)));
    }
    repeat(registers, call);
    tracee.changed = true;
    now.instruction = registers.rip + kInstructionBytes;
  }
  last_[tracee.thread] = now;
}

void Waits::leave(pid_t process, const Tracee& tracee) {
  const auto known = last_.find(tracee.thread);
  if (known != last_.end()) known->second.switches = switches_of(process, tracee.thread);
}

Registers Waits::for_image(const Tracee& tracee) {
  Registers registers = tracee.registers;
  if (registers.orig_rax == kNoCall) return registers;
  const auto result = static_cast<std::int64_t>(registers.rax);
  if (result != kRestartSystemCall && result != kRestartNoIntr && result != kRestartNoHandler &&
      result != kRestartBlock) {
    registers.orig_rax = kNoCall;
    return registers;
  }
  std::uint64_t call = registers.orig_rax;
  if (call == SYS_restart_syscall) {
    const auto known = last_.find(tracee.thread);
    call = known != last_.end() ? known->second.call : call;
  }
  if (call == SYS_restart_syscall) {  // whatever it was: it may fail with EINTR for a stop signal
    registers.rax = static_cast<std::uint64_t>(std::int64_t{-EINTR});
    registers.orig_rax = kNoCall;
    return registers;
  }
  repeat(registers, call);
  return registers;
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
