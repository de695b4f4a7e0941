// A process held still by ptrace(2), all its threads, and what can be done with it then.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

using Registers = user_regs_struct;

/// Memory of another process. Errors  those of process_vm_readv(2); EFAULT: some of it is not
/// there.
Result<Done> read_memory(pid_t process, std::uint64_t address, std::span<std::byte> out);
Result<Done> write_memory(pid_t process, std::uint64_t address, std::span<const std::byte> bytes);
/// Through /proc/PID/mem: whatever the memory's protection.
Result<Done> force_memory(pid_t process, std::uint64_t address, std::span<const std::byte> bytes);

/// Whether it is gone, or nothing but its status is left.
bool has_ended(pid_t thread);

/// One thread, stopped.
struct Tracee {
  pid_t thread = 0;
  Registers registers{};            // as it was stopped
  std::vector<std::byte> extended;  // FP, SSE, AVX...: the layout of XSAVE, not compacted
  std::uint64_t mask = 0;           // blocked signals
  int owed = 0;                     // a stop signal that came meanwhile, sent again when it goes on
  bool changed = false;             // `registers` are not those of the kernel any more
};

/// All threads of a process, stopped. They go on, as they were, when this ends.
///
/// Threads  only the one that made it. Not signal-safe; allocates.
class StoppedProcess {
 public:
  /// Errors  EPERM: may not be traced, or is by somebody else; ESRCH; ETIMEDOUT: `culprit` says
  /// what
  ///         thread does not stop. It goes on unharmed.
  static Result<StoppedProcess> stop(pid_t process, std::chrono::milliseconds deadline,
                                     std::string& culprit);
  StoppedProcess(StoppedProcess&& other) noexcept;
  StoppedProcess& operator=(StoppedProcess&&) = delete;
  ~StoppedProcess();

  [[nodiscard]] pid_t process() const noexcept { return process_; }
  /// The process's first one first.
  [[nodiscard]] std::vector<Tracee>& threads() noexcept { return threads_; }

  /// One system call by the first thread, made with a `syscall` instruction of its own at
  /// `instruction`. The thread's state is as before. Returns what the kernel did, or -errno.
  Result<std::int64_t> call(std::uint64_t instruction, std::int64_t number,
                            std::span<const std::uint64_t> arguments);

  /// What a thread is to run.
  struct Errand {
    std::size_t thread = 0;   // index in threads()
    std::uint64_t code = 0;   // entry of the carried code
    std::uint64_t list = 0;   // address of its first Call
    std::uint64_t stack = 0;  // its end
  };
  /// The signal that ends errands (kReport): one that the process ignores by default.
  [[nodiscard]] int report_signal() const noexcept { return report_signal_; }
  /// All of them at once, each to its report, with all other signals blocked. Errors:
  /// what the calls have in `result` is the caller's to read; EINTR: a thread ended.
  Result<Done> run(std::span<const Errand> errands);

  /// Lets all of them go now. Errors  ESRCH: one is gone, as with SIGKILL.
  void release() noexcept;

 private:
  explicit StoppedProcess(pid_t process) noexcept : process_(process) {}
  void put_back(Tracee& tracee) noexcept;
  pid_t process_;
  std::vector<Tracee> threads_;
  int report_signal_ = 0;
  bool held_ = true;
};

/// Waits until a traced thread stops. Signals that stop it on the way are delivered, except for
/// SIGTRAP and those that stop processes. Returns the status, or an error: ETIMEDOUT, ESRCH (gone).
Result<int> wait_for_stop(pid_t thread, std::chrono::steady_clock::time_point deadline);

/// A system call by a stopped thread, with a `syscall` instruction of its process at `instruction`.
/// Changes its registers, and blocks its signals. Returns what the kernel did, or -errno. A signal
/// that stops processes and came meanwhile is put into `owed`.
Result<std::int64_t> call_in(pid_t thread, Registers registers, std::uint64_t instruction,
                             std::int64_t number, std::span<const std::uint64_t> arguments,
                             int& owed);

Result<Done> get_registers(pid_t thread, Registers& registers);
Result<Done> set_registers(pid_t thread, const Registers& registers);
Result<Done> get_extended(pid_t thread, std::vector<std::byte>& extended);
Result<Done> set_extended(pid_t thread, std::span<const std::byte> extended);
Result<Done> set_mask(pid_t thread, std::uint64_t mask);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
