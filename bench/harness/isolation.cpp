#include "harness/isolation.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <exception>
#include <string>

#include "harness/clock.hpp"
#include "harness/scheduling.hpp"

namespace pagetrap::bench {

namespace {

[[noreturn]] void be_the_child(const Question& question, const Effort& effort, int pipe,
                               pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(3);  // it died before the line above
  setsid();                           // one process group to kill, and one scheduling group
  signal(SIGPIPE, SIG_IGN);
  Report report(pipe);
  report.scheduling(apply_scheduling(question.scheduling));
  try {
    question.measure(effort, report);
  } catch (const std::exception& error) {
    report.fail(error.what());
  }
  report.finish();
}

/// All that comes through `pipe` before it is closed. False if that takes too long.
bool read_until_closed(int pipe, double limit_seconds, std::string& text) {
  const double deadline = now_ns() + limit_seconds * 1e9;
  std::array<char, 4096> buffer{};
  while (true) {
    const double left_ms = (deadline - now_ns()) / 1e6;
    if (left_ms <= 0) return false;
    pollfd ready{pipe, POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(left_ms) + 1) <= 0) continue;
    const ssize_t length = read(pipe, buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return true;
    text.append(buffer.data(), static_cast<std::size_t>(length));
  }
}

std::string how_it_died(int status) {
  if (WIFSIGNALED(status)) {
    return std::string("the measuring process died: ") + strsignal(WTERMSIG(status));
  }
  return "the measuring process ended early, status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

Answer measure_in_child(const Question& question, const Effort& effort, double limit_seconds) {
  std::array<int, 2> ends{};
  Answer answer;
  if (pipe(ends.data()) != 0) {
    answer.failure = std::string("pipe: ") + std::strerror(errno);
    return answer;
  }
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    be_the_child(question, effort, ends[1], parent);
  }
  close(ends[1]);
  if (child < 0) {
    close(ends[0]);
    answer.failure = std::string("fork: ") + std::strerror(errno);
    return answer;
  }
  std::string text;
  const bool in_time = read_until_closed(ends[0], limit_seconds, text);
  close(ends[0]);
  // The whole group: a measurement may have children. Both, as setsid may not have run yet.
  if (!in_time) {
    kill(-child, SIGKILL);
    kill(child, SIGKILL);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  answer = parse_answer(text);
  if (!in_time) {
    answer.failure = "took longer than " + std::to_string(static_cast<int>(limit_seconds)) + " s";
  } else if (!answer.finished && answer.failure.empty()) {
    answer.failure = how_it_died(status);
  }
  return answer;
}

}  // namespace pagetrap::bench
