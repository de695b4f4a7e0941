#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sstream>

#include "checkpoint/process/census.hpp"
#include "checkpoint/process/machine.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

constexpr std::size_t kXfeaturesAt = 464;  // in an XSAVE area as ptrace gives it: XCR0
constexpr std::size_t kSignalInfoBytes = 128;

void* as_pointer(std::uint64_t value) { return reinterpret_cast<void*>(value); }

std::uint64_t last_number(const std::string& words) {
  const std::size_t at = words.find_last_of(" \t");
  return std::strtoull(words.c_str() + (at == std::string::npos ? 0 : at + 1), nullptr, 10);
}

bool all_equal(const std::string& words) {
  std::istringstream numbers(words);
  std::string first;
  numbers >> first;
  for (std::string next; numbers >> next;)
    if (next != first) return false;
  return true;
}

std::vector<std::vector<std::byte>> pending_signals(pid_t thread, bool shared) {
  std::vector<std::vector<std::byte>> all;
  for (std::uint64_t offset = 0;; ++offset) {
    std::vector<std::byte> info(kSignalInfoBytes);
    struct {
      std::uint64_t offset;
      std::uint32_t flags;
      std::int32_t count;
    } which{offset, shared ? 1U : 0U, 1};
    if (::ptrace(PTRACE_PEEKSIGINFO, thread, &which, info.data()) != 1) return all;
    all.push_back(std::move(info));
  }
}

void look_for_obstacles(const Fields& status, Refusals& refusals) {
  if (status.number("Seccomp") != 0) refusals.add("a seccomp filter");
  if (status.word("x86_Thread_features").find("shstk") != std::string::npos)
    refusals.add("a shadow stack (CET)");
  if (!all_equal(status.word("Uid")) || !all_equal(status.word("Gid")))
    refusals.add("a set-user-ID or set-group-ID program");
}

void look_for_namespaces(pid_t process, Refusals& refusals) {
  for (const char* const space : {"mnt", "net", "ipc", "uts"}) {
    const std::string name = std::string("ns/") + space;
    if (read_link(proc_path(process, name)) != read_link("/proc/self/" + name))
      refusals.add(std::string("a namespace of its own: ") + space);
  }
  if (read_link(proc_path(process, "root")) != read_link("/proc/self/root"))
    refusals.add("a root directory of its own: " + read_link(proc_path(process, "root")));
}

void look_for_children(pid_t process, pid_t thread, Refusals& refusals) {
  const auto listed =
      read_whole(proc_path(process, "task/" + std::to_string(thread) + "/children"));
  if (!listed) return;
  std::istringstream numbers(*listed);
  for (pid_t child = 0; numbers >> child;) {
    const auto name = read_whole(proc_path(child, "comm"));
    refusals.add("child process " + std::to_string(child) +
                 (name ? " (" + name->substr(0, name->find('\n')) + ")" : std::string()));
  }
}

void look_at_timers(pid_t process, const std::map<pid_t, std::uint64_t>& inner, Record& record,
                    Refusals& refusals) {
  const auto text = read_whole(proc_path(process, "timers"));
  if (!text) return;  // a kernel without POSIX timers
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    unsigned long long one = 0;
    unsigned long long two = 0;
    int clock = 0;
    char notify[16] = {};
    char target[16] = {};
    int id = 0;
    if (std::sscanf(line.c_str(), "ID: %llu", &one) == 1) {
      record.timers.emplace_back();
      record.timers.back().id = one;
    } else if (record.timers.empty()) {
      continue;
    } else if (std::sscanf(line.c_str(), "signal: %llu/%llx", &one, &two) == 2) {
      record.timers.back().signal = one;
      record.timers.back().value = two;
    } else if (std::sscanf(line.c_str(), "notify: %15[a-z]/%15[a-z].%d", notify, target, &id) ==
               3) {
      Timer& timer = record.timers.back();
      if (std::strcmp(notify, "none") == 0) {
        timer.notify = SIGEV_NONE;
      } else if (std::strcmp(target, "tid") == 0) {
        timer.notify = SIGEV_THREAD_ID;
        const auto found = inner.find(id);
        if (found == inner.end())
          refusals.add("POSIX timer " + std::to_string(timer.id) + ": its thread has ended");
        else
          timer.thread = found->second;
      } else {
        timer.notify = SIGEV_SIGNAL;
      }
    } else if (std::sscanf(line.c_str(), "ClockID: %d", &clock) == 1) {
      record.timers.back().clock = static_cast<std::uint64_t>(static_cast<std::uint32_t>(clock));
      if (clock < 0)
        refusals.add("POSIX timer " + std::to_string(record.timers.back().id) +
                     ": a clock of processor time of one thread or process");
    }
  }
}

Result<Done> look_at_thread(pid_t process, const Tracee& tracee, Thread& thread) {
  const std::string folder = "task/" + std::to_string(tracee.thread) + "/";
  const auto text = read_whole(proc_path(process, folder + "status"));
  if (!text) return text.error();
  const Fields status(*text);
  thread.id = last_number(status.word("NSpid"));
  if (const auto name = read_whole(proc_path(process, folder + "comm")); name)
    thread.name = name->substr(0, name->find('\n'));
  thread.capabilities = {status.number("CapInh", 16), status.number("CapPrm", 16),
                         status.number("CapEff", 16)};
  const auto registers = std::as_bytes(std::span(&tracee.registers, 1));
  thread.registers.assign(registers.begin(), registers.end());
  thread.extended = tracee.extended;
  thread.mask = tracee.mask;
  std::uint64_t head = 0;
  std::size_t length = 0;
  if (::syscall(SYS_get_robust_list, tracee.thread, &head, &length) == 0) {
    thread.robust_list = head;
    thread.robust_bytes = length;
  }
  __ptrace_rseq_configuration rseq{};
  if (::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tracee.thread, as_pointer(sizeof rseq), &rseq) > 0) {
    thread.rseq = rseq.rseq_abi_pointer;
    thread.rseq_bytes = rseq.rseq_abi_size;
    thread.rseq_signature = rseq.signature;
  }
  thread.affinity.resize(sizeof(cpu_set_t));
  if (::sched_getaffinity(tracee.thread, sizeof(cpu_set_t),
                          reinterpret_cast<cpu_set_t*>(thread.affinity.data())) != 0)
    thread.affinity.clear();
  errno = 0;
  thread.nice = static_cast<std::uint64_t>(
      static_cast<std::int64_t>(::getpriority(PRIO_PROCESS, static_cast<id_t>(tracee.thread))));
  sched_param parameters{};
  const int policy = ::sched_getscheduler(tracee.thread);
  if (policy >= 0 && ::sched_getparam(tracee.thread, &parameters) == 0) {
    thread.policy = static_cast<std::uint64_t>(policy);
    thread.priority = static_cast<std::uint64_t>(parameters.sched_priority);
  }
  return Done{};
}

// How the kernel laid the address space out, for prctl(PR_SET_MM_MAP).
void look_at_layout(pid_t process, Record& record) {
  const auto stat = read_whole(proc_path(process, "stat"));
  const auto numbers = stat ? parse_stat(*stat) : std::vector<std::uint64_t>{};
  if (numbers.size() < 52) return;
  record.layout = {numbers[26], numbers[27], numbers[45], numbers[46], numbers[47], 0,
                   numbers[28], numbers[48], numbers[49], numbers[50], numbers[51]};
}

std::string words_of_command(pid_t process) {
  auto text = read_whole(proc_path(process, "cmdline"));
  if (!text) return {};
  std::replace(text->begin(), text->end(), '\0', ' ');
  while (text->ends_with(" ")) text->pop_back();
  return *text;
}

}  // namespace

Result<Done> census_ahead(pid_t process, Record& record, Refusals& refusals) {
  look_for_namespaces(process, refusals);
  // A thread that waits for a child of vfork(2) could not be stopped.
  const auto threads = numbers_in(proc_path(process, "task"));
  if (!threads) return Error{"a checkpoint of a process", ESRCH};
  for (const int thread : *threads) look_for_children(process, thread, refusals);
  utsname system{};
  ::uname(&system);
  record.kernel = system.release;
  record.command = words_of_command(process);
  if (const auto personality = read_whole(proc_path(process, "personality")); personality)
    record.personality = std::strtoull(personality->c_str(), nullptr, 16);
  const std::string program = read_link(proc_path(process, "exe"));
  if (const auto file = identify(program, program); file) record.executable = *file;
  look_at_layout(process, record);
  const auto auxiliary = read_whole(proc_path(process, "auxv"));
  if (!auxiliary) return auxiliary.error();
  record.auxiliary.resize(auxiliary->size());
  std::memcpy(record.auxiliary.data(), auxiliary->data(), auxiliary->size());
  record.hardware = hardware_in(*auxiliary);
  return Done{};
}

Result<Done> census_of_process(StoppedProcess& stopped, Record& record, Refusals& refusals) {
  const pid_t process = stopped.process();
  const auto text = read_whole(proc_path(process, "status"));
  if (!text) return text.error();
  const Fields status(*text);
  look_for_obstacles(status, refusals);

  record.id = last_number(status.word("NSpid"));
  record.group = last_number(status.word("NSpgid"));
  record.session = last_number(status.word("NSsid"));
  record.user = status.number("Uid");
  record.user_group = status.number("Gid");
  record.umask = status.number("Umask", 8);
  record.no_new_privileges = status.number("NoNewPrivs");
  record.directory = read_link(proc_path(process, "cwd"));
  struct stat there {};
  if (::stat(record.directory.c_str(), &there) != 0)
    refusals.add("current directory " + record.directory + ", which is not there any more");
  for (unsigned i = 0; i < 16; ++i) {
    rlimit64 limit{};
    if (::prlimit64(process, static_cast<__rlimit_resource>(i), nullptr, &limit) != 0)
      return Error{"prlimit", errno};
    record.limits[2 * i] = limit.rlim_cur;
    record.limits[2 * i + 1] = limit.rlim_max;
  }

  std::map<pid_t, std::uint64_t> inner;  // ids as the process knows them
  for (const Tracee& tracee : stopped.threads()) {
    Thread thread;
    if (auto done = look_at_thread(process, tracee, thread); !done) return done;
    inner[tracee.thread] = thread.id;
    look_for_children(process, tracee.thread, refusals);
    record.threads.push_back(std::move(thread));
  }
  const std::vector<std::byte>& extended = record.threads.front().extended;
  record.xsave_bytes = extended.size();
  if (extended.size() >= kXfeaturesAt + sizeof record.xfeatures)
    std::memcpy(&record.xfeatures, extended.data() + kXfeaturesAt, sizeof record.xfeatures);
  look_at_timers(process, inner, record, refusals);
  return Done{};
}

void census_of_signals(StoppedProcess& stopped, Record& record) {
  record.pending = pending_signals(stopped.threads().front().thread, true);
  for (std::size_t i = 0; i < record.threads.size(); ++i)
    record.threads[i].pending = pending_signals(stopped.threads()[i].thread, false);
}

bool ignores_traps(pid_t process) {
  const auto text = read_whole(proc_path(process, "status"));
  return text && ((Fields(*text).number("SigIgn", 16) >> (SIGTRAP - 1)) & 1) != 0;
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
