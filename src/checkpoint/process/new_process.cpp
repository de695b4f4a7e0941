#include "checkpoint/process/new_process.hpp"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "checkpoint/process/calls.hpp"
#include "checkpoint/process/proc_files.hpp"
#include "checkpoint/process/tracee.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

constexpr int kTroubled = 3;

// As fork(2), with flags and an id. The child is the only thread of a copy of this process.
pid_t clone_with(std::uint64_t flags, pid_t wanted) {
  clone_args arguments{};
  arguments.flags = flags;
  arguments.exit_signal = SIGCHLD;
  if (wanted != 0) {
    arguments.set_tid = reinterpret_cast<std::uint64_t>(&wanted);
    arguments.set_tid_size = 1;
  }
  return static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
}

void write_file(const char* path, const std::string& text) {
  const sys::Descriptor file(::open(path, O_WRONLY | O_CLOEXEC));
  // What is refused shows when an id cannot be chosen.
  if (file.valid()) static_cast<void>(!::write(file.get(), text.data(), text.size()));
}

// Who it is outside, it is inside.
void map_ids(uid_t user, gid_t group) {
  write_file("/proc/self/setgroups", "deny");
  write_file("/proc/self/uid_map", std::to_string(user) + " " + std::to_string(user) + " 1");
  write_file("/proc/self/gid_map", std::to_string(group) + " " + std::to_string(group) + " 1");
}

[[noreturn]] void run_child(const std::function<void(int)>& become, int go, int words) {
  char byte = 0;
  if (::read(go, &byte, 1) != 1) ::_exit(kTroubled);  // the parent is gone
  ::close(go);
  become(words);
  ::_exit(kTroubled);  // it does not come back
}

// The first process of a namespace: ends when the other does, as that did.
[[noreturn]] void keep(pid_t child) {
  for (int number = 3; number < 1024; ++number) ::close(number);
  for (;;) {
    int status = 0;
    const pid_t who = ::waitpid(-1, &status, 0);
    if (who == child) ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    if (who < 0 && errno != EINTR) ::_exit(kTroubled);
  }
}

// Not ours, or waited for before: nothing to wait for.
void wait_for_end(pid_t thread) {
  int status = 0;
  for (;;) {
    const pid_t who = ::waitpid(thread, &status, __WALL);
    if (who == thread && !WIFSTOPPED(status)) return;
    if (who < 0 && errno != EINTR) return;
  }
}

pid_t only_child_of(pid_t parent) {
  const auto text = read_whole(proc_path(parent, "task/" + std::to_string(parent) + "/children"));
  return text ? static_cast<pid_t>(std::strtol(text->c_str(), nullptr, 10)) : 0;
}

}  // namespace

bool needs_namespace(const std::vector<Thread>& threads) {
  for (const Thread& thread : threads)
    if (::kill(static_cast<pid_t>(thread.id), 0) == 0 || errno == EPERM) return true;
  const pid_t tried = clone_with(0, static_cast<pid_t>(threads.front().id));
  if (tried == 0) ::_exit(0);
  if (tried < 0) return true;
  while (::waitpid(tried, nullptr, 0) < 0 && errno == EINTR) {
  }
  return false;
}

Result<NewProcess> NewProcess::begin(pid_t wanted, const RebirthPlan& plan,
                                     const std::function<void(int)>& become,
                                     std::vector<std::string>& refusals) {
  std::array<int, 2> words{};
  std::array<int, 2> go{};
  if (::pipe2(words.data(), O_CLOEXEC) != 0) return Error{"pipe2", errno};
  NewProcess made;
  made.words_ = sys::Descriptor(words[0]);
  sys::Descriptor our_words(words[1]);
  if (::pipe2(go.data(), O_CLOEXEC) != 0) return Error{"pipe2", errno};
  const sys::Descriptor go_in(go[0]);
  sys::Descriptor go_out(go[1]);
  ::fflush(nullptr);  // or the child would have it too
  const bool in_namespace = plan.in_namespace;
  const uid_t user = ::getuid();
  const gid_t group = ::getgid();
  if (!in_namespace) {
    made.id = clone_with(0, wanted);
    if (made.id == 0) {
      go_out.reset();
      run_child(become, go[0], words[1]);
    }
  } else {
    made.keeper = clone_with(CLONE_NEWPID | (plan.drop_privileges ? CLONE_NEWUSER : 0), 0);
    if (made.keeper == 0) {
      go_out.reset();
      if (plan.drop_privileges) map_ids(user, group);
      const pid_t child = clone_with(0, wanted);
      if (child == 0) run_child(become, go[0], words[1]);
      if (child < 0) {
        const std::string trouble =
            "process id " + std::to_string(wanted) + ": " + std::strerror(errno);
        static_cast<void>(!::write(words[1], trouble.data(), trouble.size()));
        ::_exit(kTroubled);
      }
      keep(child);
    }
  }
  if ((in_namespace ? made.keeper : made.id) < 0)
    return Error{"clone3 for a restart",
                 errno,
                 {},
                 "its process id is in use, or not for this user to choose, and no namespace can "
                 "be made: `pagetrap doctor`"};
  our_words.reset();
  while (in_namespace && made.id == 0) {
    made.id = only_child_of(made.keeper);
    int status = 0;
    if (made.id == 0 && ::waitpid(made.keeper, &status, WNOHANG) == made.keeper) {
      made.keeper = 0;
      return made.failure(Error{"restart", ECHILD}, refusals);
    }
  }
  // It waits for us before it does anything.
  if (::ptrace(PTRACE_SEIZE, made.id, nullptr, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL) != 0) {
    const int error = errno;
    made.kill();
    return Error{"PTRACE_SEIZE of a restarted process", error};
  }
  if (::write(go_out.get(), "", 1) != 1) return Error{"write to a pipe", errno};
  return made;
}

Result<ListPlace> NewProcess::wait_until_ready(std::vector<std::string>& refusals) {
  ListPlace place{};
  std::string text;
  for (;;) {
    std::array<char, 512> bytes{};
    const ssize_t got = ::read(words_.get(), bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got > 0) text.append(bytes.data(), static_cast<std::size_t>(got));
    if (text.size() == sizeof place) {
      std::memcpy(&place, text.data(), sizeof place);
      if (place.magic == kListPlace) return place;
    }
    if (got <= 0) break;
  }
  refusals.push_back(text.empty() ? "the new process ended without a word" : text);
  return Error{"restart", ENOTSUP, {}, "the process could not be made as it was"};
}

Error NewProcess::failure(const Error& error, std::vector<std::string>& refusals) {
  std::array<char, 512> bytes{};
  ::fcntl(words_.get(), F_SETFL, O_NONBLOCK);
  const ssize_t got = ::read(words_.get(), bytes.data(), bytes.size());
  if (got <= 0) return error;
  refusals.emplace_back(bytes.data(), static_cast<std::size_t>(got));
  return Error{"restart", ENOTSUP, {}, "the process could not be made as it was"};
}

Result<Done> NewProcess::reached_stop(pid_t thread, std::vector<std::string>& refusals) {
  Registers registers{};
  if (auto got = get_registers(thread, registers); !got) return got;
  Call call;
  if (auto got = read_memory(id, registers.rax, std::as_writable_bytes(std::span(&call, 1))); !got)
    return got;
  if (call.number == kStop) return Done{};
  refusals.push_back("system call " + std::to_string(call.number) + " (first argument " +
                     std::to_string(call.arguments[0]) +
                     "): " + std::strerror(static_cast<int>(-call.result)));
  return Error{
      "restart", static_cast<int>(-call.result), {}, "a system call of the new process failed"};
}

// As the tracer, whoever is its parent: until then its dead threads stay, and a namespace with
// them, whose first process cannot end before it is empty.
void NewProcess::wait_for_dead_threads() const {
  const auto threads = numbers_in(proc_path(id, "task"));
  if (!threads) return;
  for (const int thread : *threads)
    if (thread != id) wait_for_end(thread);
  wait_for_end(id);
}

void NewProcess::kill() noexcept {
  if (id > 0) {
    ::kill(id, SIGKILL);
    wait_for_dead_threads();
  }
  if (keeper > 0) {
    ::kill(keeper, SIGKILL);
    wait_for_end(keeper);
  }
  id = keeper = 0;
}

int NewProcess::wait() {
  int status = 0;
  while (::waitpid(keeper != 0 ? keeper : id, &status, 0) < 0)
    if (errno != EINTR) return -1;
  return status;
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
