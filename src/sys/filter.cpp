#include "sys/filter.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap::sys {
namespace {

constexpr std::size_t kMostVariables = 1024;

// Raw calls: the shims interpose the C library's.
long call(long number, long a = 0, long b = 0, long c = 0) noexcept {
  return ::syscall(number, a, b, c);
}

// The environment without what would load us again. One thread at a time; an alternate stack has no
// room for it.
constinit std::array<char*, kMostVariables + 1> environment{};

void choose_environment() noexcept {
  std::size_t count = 0;
  for (char** word = environ; word != nullptr && *word != nullptr; ++word)
    if (count < kMostVariables && std::strncmp(*word, "LD_PRELOAD=", 11) != 0)
      environment[count++] = *word;
  environment[count] = nullptr;
}

// In the child of vfork(), which runs on our stack until it is another program.
[[noreturn]] void become(const char* const* words, int in, int out) noexcept {
  // Signals that the crashed thread has blocked, or handles, are not the filter's.
  sigset_t none;
  ::sigemptyset(&none);
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, 8);
  if (in >= 0) call(SYS_dup2, in, STDIN_FILENO);
  if (out >= 0) call(SYS_dup2, out, STDOUT_FILENO);
  ::syscall(SYS_execve, words[0], words, environment.data());
  end_process(127);
}

// Into `output` until it is closed, at most until `deadline`.
int collect(int from, char* output, std::size_t room, std::size_t& got,
            std::uint64_t deadline) noexcept {
  while (got < room) {
    const std::uint64_t now = monotonic_nanoseconds();
    if (now >= deadline) return ETIMEDOUT;
    pollfd wait{from, POLLIN, 0};
    const int milliseconds = static_cast<int>((deadline - now) / 1'000'000) + 1;
    const long ready = ::syscall(SYS_poll, &wait, 1, milliseconds);
    if (ready < 0 && errno != EINTR) return errno;
    if (ready <= 0) continue;
    const long more = ::syscall(SYS_read, from, output + got, room - got);
    if (more == 0) return 0;
    if (more < 0 && errno != EINTR) return errno;
    if (more > 0) got += static_cast<std::size_t>(more);
  }
  return 0;
}

void reap(pid_t child) noexcept {
  int status = 0;
  while (::syscall(SYS_wait4, child, &status, 0, nullptr) < 0 && errno == EINTR) {
  }
}

}  // namespace

void end_process(int status) noexcept {
  for (;;) call(SYS_exit_group, status);
}

int filter(const char* const* words, std::string_view input, char* output, std::size_t room,
           std::size_t& got, int milliseconds) noexcept {
  const ErrnoSaver errno_saver;
  got = 0;
  std::array<int, 2> in{};
  std::array<int, 2> out{};
  if (::syscall(SYS_pipe2, in.data(), O_CLOEXEC) != 0) return errno;
  if (::syscall(SYS_pipe2, out.data(), O_CLOEXEC) != 0) {
    const int error = errno;
    call(SYS_close, in[0]);
    call(SYS_close, in[1]);
    return error;
  }
  choose_environment();
  const pid_t child = ::vfork();
  if (child == 0) become(words, in[0], out[1]);
  int error = child < 0 ? errno : 0;
  call(SYS_close, in[0]);
  call(SYS_close, out[1]);
  if (error == 0) {
    // It fits into the pipe. EPIPE: the program could not be started, and the answer is empty.
    sigset_t pipe;
    ::sigemptyset(&pipe);
    ::sigaddset(&pipe, SIGPIPE);
    ::syscall(SYS_rt_sigprocmask, SIG_BLOCK, &pipe, nullptr, 8);
    error = write_all(in[1], input.data(), input.size());
  }
  call(SYS_close, in[1]);
  if (error == 0) {
    const auto limit = static_cast<std::uint64_t>(milliseconds) * 1'000'000;
    error = collect(out[0], output, room, got, monotonic_nanoseconds() + limit);
  }
  call(SYS_close, out[0]);
  if (child > 0) {
    if (error != 0) call(SYS_kill, child, SIGKILL);
    reap(child);
  }
  return error;
}

int run_shell(const char* command) noexcept {
  const ErrnoSaver errno_saver;
  const std::array<const char*, 4> words{"/bin/sh", "-c", command, nullptr};
  choose_environment();
  const pid_t child = ::vfork();
  if (child == 0) become(words.data(), -1, -1);
  if (child < 0) return errno;
  reap(child);
  return 0;
}

}  // namespace pagetrap::sys
