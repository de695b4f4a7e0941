#include "checkpoint/process/tracee.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <utility>

#include "checkpoint/process/proc_files.hpp"
#include "sys/fd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostExtended = 32768;  // of any x86-64; AMX takes 11 KiB
constexpr std::uint64_t kAllButTrap = ~(std::uint64_t{1} << (SIGTRAP - 1));
constexpr int kPatientYields = 200;
constexpr std::chrono::milliseconds kErrandDeadline{10'000};

void* as_pointer(std::uint64_t value) { return reinterpret_cast<void*>(value); }

// Takes as long as the other process needs a processor for.
void rest(int turn) {
  if (turn < kPatientYields) {
    ::sched_yield();
    return;
  }
  const timespec nap{0, 50'000};
  ::nanosleep(&nap, nullptr);
}

bool stops_processes(int signal) {
  return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

std::string tracer_of(pid_t thread) {
  const auto status = read_whole(proc_path(thread, "status"));
  const std::uint64_t tracer = status ? Fields(*status).number("TracerPid") : 0;
  return tracer == 0 ? std::string() : ", traced by process " + std::to_string(tracer);
}

// Ignored where it is not caught. Programs that catch all of these get one too many if we are
// killed.
int find_report_signal(pid_t process) {
  const auto status = read_whole(proc_path(process, "status"));
  const std::uint64_t caught = status ? Fields(*status).number("SigCgt", 16) : 0;
  for (const int signal : {SIGURG, SIGWINCH, SIGCHLD})
    if (((caught >> (signal - 1)) & 1) == 0) return signal;
  return SIGURG;
}

// Whether it is a process, and this one's child: then its end is for its parent to wait for.
bool is_own_child(pid_t thread) {
  const auto text = read_whole(proc_path(thread, "status"));
  if (!text) return false;
  const Fields status(*text);
  return status.number("Tgid") == static_cast<std::uint64_t>(thread) &&
         status.number("PPid") == static_cast<std::uint64_t>(::getpid());
}

// Where the thread is, for a message.
std::string describe_thread(pid_t process, pid_t thread) {
  const std::string folder = "task/" + std::to_string(thread) + "/";
  std::string words = "thread " + std::to_string(thread);
  if (const auto name = read_whole(proc_path(process, folder + "comm")); name)
    words += " (" + name->substr(0, name->find('\n')) + ")";
  if (const auto call = read_whole(proc_path(process, folder + "syscall")); call)
    words += " in system call " + call->substr(0, call->find(' '));
  return words;
}

}  // namespace

bool has_ended(pid_t thread) {
  const auto status = read_whole(proc_path(thread, "status"));
  if (!status) return true;
  const std::string state = Fields(*status).word("State");
  return state.starts_with("Z") || state.starts_with("X");
}

Result<Done> read_memory(pid_t process, std::uint64_t address, std::span<std::byte> out) {
  while (!out.empty()) {
    const iovec here{out.data(), out.size()};
    const iovec there{as_pointer(address), out.size()};
    const ssize_t got = ::process_vm_readv(process, &here, 1, &there, 1, 0);
    if (got < 0) return Error{"process_vm_readv", errno};
    if (got == 0) return Error{"process_vm_readv", EFAULT};
    out = out.subspan(static_cast<std::size_t>(got));
    address += static_cast<std::uint64_t>(got);
  }
  return Done{};
}

Result<Done> write_memory(pid_t process, std::uint64_t address, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const iovec here{const_cast<std::byte*>(bytes.data()), bytes.size()};
    const iovec there{as_pointer(address), bytes.size()};
    const ssize_t put = ::process_vm_writev(process, &here, 1, &there, 1, 0);
    if (put < 0) return Error{"process_vm_writev", errno};
    if (put == 0) return Error{"process_vm_writev", EFAULT};
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    address += static_cast<std::uint64_t>(put);
  }
  return Done{};
}

Result<Done> force_memory(pid_t process, std::uint64_t address, std::span<const std::byte> bytes) {
  const sys::Descriptor memory(::open(proc_path(process, "mem").c_str(), O_WRONLY | O_CLOEXEC));
  if (!memory.valid()) return Error{"open /proc/PID/mem", errno};
  while (!bytes.empty()) {
    const ssize_t put =
        ::pwrite(memory.get(), bytes.data(), bytes.size(), static_cast<off_t>(address));
    if (put <= 0) return Error{"write to /proc/PID/mem", put < 0 ? errno : EIO};
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    address += static_cast<std::uint64_t>(put);
  }
  return Done{};
}

Result<Done> get_registers(pid_t thread, Registers& registers) {
  iovec place{&registers, sizeof registers};
  if (::ptrace(PTRACE_GETREGSET, thread, as_pointer(NT_PRSTATUS), &place) != 0)
    return Error{"PTRACE_GETREGSET of registers", errno};
  return Done{};
}

Result<Done> set_registers(pid_t thread, const Registers& registers) {
  iovec place{const_cast<Registers*>(&registers), sizeof registers};
  if (::ptrace(PTRACE_SETREGSET, thread, as_pointer(NT_PRSTATUS), &place) != 0)
    return Error{"PTRACE_SETREGSET of registers", errno};
  return Done{};
}

Result<Done> get_extended(pid_t thread, std::vector<std::byte>& extended) {
  extended.resize(kMostExtended);
  iovec place{extended.data(), extended.size()};
  if (::ptrace(PTRACE_GETREGSET, thread, as_pointer(NT_X86_XSTATE), &place) != 0)
    return Error{"PTRACE_GETREGSET of extended registers", errno};
  extended.resize(place.iov_len);
  return Done{};
}

Result<Done> set_extended(pid_t thread, std::span<const std::byte> extended) {
  iovec place{const_cast<std::byte*>(extended.data()), extended.size()};
  if (::ptrace(PTRACE_SETREGSET, thread, as_pointer(NT_X86_XSTATE), &place) != 0)
    return Error{"PTRACE_SETREGSET of extended registers", errno};
  return Done{};
}

Result<Done> set_mask(pid_t thread, std::uint64_t mask) {
  if (::ptrace(PTRACE_SETSIGMASK, thread, as_pointer(sizeof mask), &mask) != 0)
    return Error{"PTRACE_SETSIGMASK", errno};
  return Done{};
}

Result<int> wait_for_stop(pid_t thread, Clock::time_point deadline) {
  for (int turn = 0;; ++turn) {
    siginfo_t info{};
    constexpr int kLook = WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL;
    if (::waitid(P_PID, static_cast<id_t>(thread), &info, kLook) != 0 && errno != EINTR)
      return Error{"wait for a thread", errno};
    if (info.si_pid == thread) {
      const bool stands = info.si_code == CLD_TRAPPED || info.si_code == CLD_STOPPED;
      if (!stands && is_own_child(thread)) return Error{"wait for a thread", ESRCH};
      int status = 0;
      if (::waitpid(thread, &status, __WALL | WNOHANG) != thread || !WIFSTOPPED(status))
        return Error{"wait for a thread", ESRCH};
      return status;
    }
    if (Clock::now() > deadline) return Error{"wait for a thread", ETIMEDOUT};
    rest(turn);
  }
}

StoppedProcess::StoppedProcess(StoppedProcess&& other) noexcept
    : process_(other.process_),
      threads_(std::move(other.threads_)),
      report_signal_(other.report_signal_),
      held_(std::exchange(other.held_, false)) {}

StoppedProcess::~StoppedProcess() { release(); }

Result<StoppedProcess> StoppedProcess::stop(pid_t process, std::chrono::milliseconds patience,
                                            std::string& culprit) {
  StoppedProcess stopped(process);
  const auto deadline = Clock::now() + patience;
  const auto known = [&](pid_t thread) {
    return std::any_of(stopped.threads_.begin(), stopped.threads_.end(),
                       [&](const Tracee& each) { return each.thread == thread; });
  };
  // RACE a thread that is not stopped yet may make another. Nobody makes any when all that were
  // found stand still, so that a pass over the list that finds no new one has found all.
  for (bool again = true; again;) {
    again = false;
    const auto listed = numbers_in(proc_path(process, "task"));
    if (!listed) return Error{"stop a process", ESRCH};
    std::vector<pid_t> fresh;
    for (const pid_t thread : *listed) {
      if (known(thread)) continue;
      if (::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0) {
        const int error = errno;
        if (error == ESRCH) continue;  // ended meanwhile
        if (has_ended(thread)) {
          // RACE a thread that ends is in the list for a moment more; a first one stays.
          if (thread != process) continue;
          culprit = "thread " + std::to_string(thread) + ": the first thread has ended";
          return Error{"a checkpoint of a process", ENOTSUP, {}, "it cannot be made again"};
        }
        culprit = describe_thread(process, thread) + tracer_of(thread);
        return Error{"PTRACE_SEIZE",
                     error,
                     {},
                     "only a parent or root may, and no two: `pagetrap doctor` tells"};
      }
      // Fails when it ends: that is waited for below, since nobody else can any more.
      static_cast<void>(::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr));
      stopped.threads_.push_back({thread, {}, {}, 0, 0, false});
      fresh.push_back(thread);
      again = true;
    }
    for (const pid_t thread : fresh) {
      for (;;) {
        const auto status = wait_for_stop(thread, deadline);
        if (!status && status.error().number == ETIMEDOUT) {
          culprit = describe_thread(process, thread);
          return status.error();
        }
        if (!status) {  // it ended
          std::erase_if(stopped.threads_,
                        [&](const Tracee& each) { return each.thread == thread; });
          break;
        }
        if ((*status >> 16) == PTRACE_EVENT_STOP) break;
        // A signal was about to be delivered: it is, and the stop comes after it.
        ::ptrace(PTRACE_CONT, thread, nullptr, as_pointer(std::uint64_t(WSTOPSIG(*status))));
      }
    }
  }
  if (stopped.threads_.empty()) return Error{"stop a process", ESRCH};
  // They were found by number, and numbers begin anew when they have reached their end: the
  // process's first thread is not always the smallest.
  std::stable_partition(stopped.threads_.begin(), stopped.threads_.end(),
                        [&](const Tracee& each) { return each.thread == process; });
  stopped.report_signal_ = find_report_signal(process);
  for (Tracee& tracee : stopped.threads_) {
    if (auto got = get_registers(tracee.thread, tracee.registers); !got) return got.error();
    if (auto got = get_extended(tracee.thread, tracee.extended); !got) return got.error();
    if (::ptrace(PTRACE_GETSIGMASK, tracee.thread, as_pointer(sizeof tracee.mask), &tracee.mask) !=
        0)
      return Error{"PTRACE_GETSIGMASK", errno};
  }
  return stopped;
}

Result<std::int64_t> call_in(pid_t thread, Registers registers, std::uint64_t instruction,
                             std::int64_t number, std::span<const std::uint64_t> arguments,
                             int& owed) {
  std::array<std::uint64_t, 6> six{};
  std::copy(arguments.begin(), arguments.end(), six.begin());
  registers.rip = instruction;
  registers.rax = std::uint64_t(number);
  registers.orig_rax = ~std::uint64_t{0};
  registers.rdi = six[0];
  registers.rsi = six[1];
  registers.rdx = six[2];
  registers.r10 = six[3];
  registers.r8 = six[4];
  registers.r9 = six[5];
  const auto deadline = Clock::now() + kErrandDeadline;
  if (auto set = set_registers(thread, registers); !set) return set.error();
  if (auto set = set_mask(thread, kAllButTrap); !set) return set.error();
  // Once into the call, once out of it.
  for (int stops = 0; stops < 2;) {
    if (::ptrace(PTRACE_SYSCALL, thread, nullptr, nullptr) != 0)
      return Error{"PTRACE_SYSCALL", errno};
    const auto status = wait_for_stop(thread, deadline);
    if (!status) return status.error();
    if (stops_processes(WSTOPSIG(*status))) {
      owed = WSTOPSIG(*status);
      continue;
    }
    ++stops;
  }
  if (auto got = get_registers(thread, registers); !got) return got.error();
  return std::int64_t(registers.rax);
}

Result<std::int64_t> StoppedProcess::call(std::uint64_t instruction, std::int64_t number,
                                          std::span<const std::uint64_t> arguments) {
  Tracee& tracee = threads_.front();
  const auto outcome =
      call_in(tracee.thread, tracee.registers, instruction, number, arguments, tracee.owed);
  put_back(tracee);
  return outcome;
}

Result<Done> StoppedProcess::run(std::span<const Errand> errands) {
  for (const Errand& errand : errands) {
    const Tracee& tracee = threads_[errand.thread];
    Registers registers = tracee.registers;
    registers.rip = errand.code;
    registers.rdi = errand.list;
    registers.rsp = errand.stack - 8;  // as after a call
    registers.rbp = 0;
    registers.rax = 0;
    registers.orig_rax = ~std::uint64_t{0};     // no system call is restarted there
    registers.eflags &= ~std::uint64_t{0x400};  // strings go forward
    if (auto set = set_registers(tracee.thread, registers); !set) return set.error();
    if (auto set = set_mask(tracee.thread, ~(std::uint64_t{1} << (report_signal_ - 1))); !set)
      return set.error();
  }
  for (const Errand& errand : errands)
    if (::ptrace(PTRACE_CONT, threads_[errand.thread].thread, nullptr, nullptr) != 0)
      return Error{"PTRACE_CONT", errno};
  const auto deadline = Clock::now() + kErrandDeadline;
  Result<Done> outcome = Done{};
  for (const Errand& errand : errands) {
    Tracee& tracee = threads_[errand.thread];
    for (;;) {
      const auto status = wait_for_stop(tracee.thread, deadline);
      if (!status) {
        outcome = Error{"a thread on an errand", EINTR};
        break;
      }
      if ((*status >> 16) == 0) {
        const int signal = WSTOPSIG(*status);
        siginfo_t info{};
        if (signal == report_signal_ &&
            ::ptrace(PTRACE_GETSIGINFO, tracee.thread, nullptr, &info) == 0 &&
            info.si_code == SI_TKILL)
          break;
        if (signal != report_signal_ && !stops_processes(signal))
          return Error{"a thread on an errand", EFAULT, {}, "it was hit by a signal"};
        tracee.owed = signal;
      }
      ::ptrace(PTRACE_CONT, tracee.thread, nullptr, nullptr);
    }
  }
  for (const Errand& errand : errands) put_back(threads_[errand.thread]);
  return outcome;
}

// RACE a system call that was interrupted by the stop is restarted by the kernel, when the thread
// goes on: orig_rax and the result in rax say that there is one. For the calls that the kernel
// would end with EINTR there, see waits.hpp.
void StoppedProcess::put_back(Tracee& tracee) noexcept {
  // Fails when the thread was killed: then there is nothing to put back.
  static_cast<void>(set_registers(tracee.thread, tracee.registers));
  static_cast<void>(set_mask(tracee.thread, tracee.mask));
}

void StoppedProcess::release() noexcept {
  if (!std::exchange(held_, false)) return;
  for (Tracee& tracee : threads_) {
    if (tracee.changed) put_back(tracee);
    if (::ptrace(PTRACE_DETACH, tracee.thread, nullptr, nullptr) != 0) {
      // Not stopped yet: it is let go when it does.
      const auto status = wait_for_stop(tracee.thread, Clock::now() + std::chrono::seconds(1));
      if (status) {
        const int signal = (*status >> 16) == 0 ? WSTOPSIG(*status) : 0;
        ::ptrace(PTRACE_DETACH, tracee.thread, nullptr, as_pointer(std::uint64_t(signal)));
      }
    }
    if (tracee.owed != 0) ::syscall(SYS_tgkill, process_, tracee.thread, tracee.owed);
  }
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
