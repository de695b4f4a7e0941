#include "supervise.hpp"

#include <poll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <thread>

#include "requests.hpp"
#include "series.hpp"

namespace pagetrap::tool::process {
namespace {

constexpr std::array kHandedOn{SIGHUP,  SIGINT,  SIGQUIT,  SIGTERM, SIGUSR1,
                               SIGUSR2, SIGALRM, SIGWINCH, SIGCONT};

sigset_t handed_on() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : kHandedOn) ::sigaddset(&set, signal);
  return set;
}

void hand_on(int signals, pid_t process) {
  signalfd_siginfo info{};
  if (::read(signals, &info, sizeof info) != sizeof info) return;
  // What the terminal sends, it sends to the process too.
  if (info.ssi_code == SI_KERNEL) return;
  ::kill(process, static_cast<int>(info.ssi_signo));
}

int end_as(int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  const int signal = WTERMSIG(status);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::signal(signal, SIG_DFL);
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, signal);
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  ::raise(signal);
  return 128 + signal;  // one that does not end processes
}

}  // namespace

void block_signals() {
  const sigset_t set = handed_on();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
}

void unblock_signals() {
  const sigset_t set = handed_on();
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

int supervise(const Supervision& supervision) {
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, supervision.process, 0));
  const sigset_t set = handed_on();
  const int signals = ::signalfd(-1, &set, SFD_CLOEXEC);
  std::array<int, 2> listeners{-1, -1};
  {
    std::optional<Series> series;
    if (supervision.saving) {
      listeners = {listen_at(socket_of(supervision.process)), supervision.listener};
      series.emplace(supervision.process, *supervision.saving, supervision.report,
                     supervision.meanwhile);
    }
    std::optional<std::jthread> meanwhile;
    if (supervision.meanwhile && !series) meanwhile.emplace(supervision.meanwhile);
    for (;;) {
      std::array<pollfd, 4> events{{{pidfd, POLLIN, 0},
                                    {signals, POLLIN, 0},
                                    {listeners[0], POLLIN, 0},
                                    {listeners[1], POLLIN, 0}}};
      if (::poll(events.data(), events.size(), -1) < 0 && errno != EINTR) break;
      if (pidfd < 0 || (events[0].revents & POLLIN) != 0) break;
      if ((events[1].revents & POLLIN) != 0) hand_on(signals, supervision.process);
      for (std::size_t i = 0; i < listeners.size(); ++i)
        if ((events[2 + i].revents & POLLIN) != 0) series->add(take_request(listeners[i]));
    }
  }
  for (const int number : {pidfd, signals, listeners[0], listeners[1]})
    if (number >= 0) ::close(number);
  return end_as(supervision.wait());
}

std::optional<std::chrono::milliseconds> parse_time(const std::string& text) {
  std::size_t digits = 0;
  std::int64_t number = 0;
  for (; digits < text.size() && std::isdigit(static_cast<unsigned char>(text[digits])) != 0;
       ++digits) {
    if (number > 1'000'000'000) return std::nullopt;
    number = number * 10 + (text[digits] - '0');
  }
  if (digits == 0) return std::nullopt;
  const std::string unit = text.substr(digits);
  if (unit == "ms") return std::chrono::milliseconds(number);
  if (unit == "s" || unit.empty()) return std::chrono::seconds(number);
  if (unit == "m") return std::chrono::minutes(number);
  if (unit == "h") return std::chrono::hours(number);
  return std::nullopt;
}

}  // namespace pagetrap::tool::process
