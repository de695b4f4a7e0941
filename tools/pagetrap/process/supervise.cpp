#include "supervise.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "statistics.hpp"

namespace pagetrap::tool::process {
namespace {

using checkpoint::ProcessSaver;
using Clock = std::chrono::steady_clock;

constexpr std::array kHandedOn{SIGHUP,  SIGINT,  SIGQUIT,  SIGTERM, SIGUSR1,
                               SIGUSR2, SIGALRM, SIGWINCH, SIGCONT};

sigset_t handed_on() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : kHandedOn) ::sigaddset(&set, signal);
  return set;
}

// A name that needs no file, and goes with its owner.
socklen_t address_of(pid_t process, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  const int length = std::snprintf(address.sun_path + 1, sizeof address.sun_path - 1,
                                   "pagetrap-checkpoint-%d", process);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 +
                                static_cast<std::size_t>(length));
}

int listen_for(pid_t process) {
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  const socklen_t length = address_of(process, address);
  if (socket < 0) return -1;
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), length) == 0 &&
      ::listen(socket, 8) == 0)
    return socket;
  ::close(socket);
  return -1;
}

/// Takes checkpoints in a thread of its own, which is the tracer.
class Series {
 public:
  Series(const Supervision& supervision) : supervision_(supervision), thread_([this] { run(); }) {}
  ~Series() {
    {
      const std::lock_guard guard(lock_);
      over_ = true;
    }
    wake_.notify_all();
    thread_.join();
    for (const int requester : requesters_) ::close(requester);
  }
  Series(const Series&) = delete;
  Series& operator=(const Series&) = delete;

  /// Answers there, and closes it.
  void request(int requester, bool full) {
    {
      const std::lock_guard guard(lock_);
      requesters_.push_back(requester);
      full_ |= full;
    }
    wake_.notify_all();
  }

 private:
  void run() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
    // Pages that a lazy restart has yet to bring would be missing in an image.
    if (supervision_.meanwhile) supervision_.meanwhile();
    auto saver = ProcessSaver::attach(supervision_.process, *supervision_.saving);
    if (!saver) std::fprintf(stderr, "pagetrap: checkpoint: %s\n", describe(saver.error()).c_str());
    const auto every = supervision_.saving->every;
    auto next = Clock::now() + every;
    std::unique_lock guard(lock_);
    for (;;) {
      const auto wanted = [&] { return over_ || !requesters_.empty(); };
      if (every.count() == 0) {
        wake_.wait(guard, wanted);
      } else {
        wake_.wait_until(guard, next, wanted);
      }
      if (over_) return;
      if (requesters_.empty() && Clock::now() < next) continue;
      const std::vector<int> asked = std::exchange(requesters_, {});
      const bool full = std::exchange(full_, false);
      guard.unlock();
      std::string answer = saver ? take(*saver, full) : describe(saver.error()) + "\n";
      for (const int requester : asked) {
        // Whoever has gone away misses it.
        static_cast<void>(!::send(requester, answer.data(), answer.size(), MSG_NOSIGNAL));
        ::close(requester);
      }
      next = Clock::now() + every;
      guard.lock();
    }
  }

  std::string take(ProcessSaver& saver, bool full) {
    const auto taken = saver.checkpoint({full, {}});
    std::string answer;
    if (taken) {
      answer = json_of(*taken) + "\n";
      report(answer);
      said_ = {};
      return answer;
    }
    if (taken.error().number == ESRCH) return "error: the process has ended\n";
    answer = "error: " + describe(taken.error()) + "\n";
    for (const std::string& line : saver.refusals()) answer += "refused: " + line + "\n";
    if (answer != said_) {
      std::fprintf(stderr, "pagetrap: checkpoint: %s", answer.c_str());
      said_ = answer;  // not again and again
    }
    return answer;
  }

  void report(const std::string& line) const {
    if (supervision_.report.empty()) return;
    std::FILE* const file =
        supervision_.report == "-" ? stderr : std::fopen(supervision_.report.c_str(), "ae");
    if (file == nullptr) {
      std::fprintf(stderr, "pagetrap: %s: %s\n", supervision_.report.c_str(), std::strerror(errno));
      return;
    }
    std::fputs(line.c_str(), file);
    if (file != stderr) std::fclose(file);
  }

  const Supervision& supervision_;
  std::mutex lock_;
  std::condition_variable wake_;
  std::vector<int> requesters_;
  bool full_ = false;
  bool over_ = false;
  std::string said_;
  std::thread thread_;
};

// Only this user's, and root's.
bool may_ask(int requester) {
  ucred who{};
  socklen_t length = sizeof who;
  return ::getsockopt(requester, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 &&
         (who.uid == 0 || who.uid == ::getuid());
}

void take_request(int listener, std::optional<Series>& series) {
  const int requester = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (requester < 0) return;
  std::array<char, 16> words{};
  const timeval patience{1, 0};
  ::setsockopt(requester, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const ssize_t got = ::recv(requester, words.data(), words.size() - 1, 0);
  if (got <= 0 || !may_ask(requester) || !series) {
    ::close(requester);
    return;
  }
  series->request(requester, std::strcmp(words.data(), "full\n") == 0);
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
  const int listener = supervision.saving ? listen_for(supervision.process) : -1;
  {
    std::optional<Series> series;
    if (supervision.saving) series.emplace(supervision);
    std::optional<std::jthread> meanwhile;
    if (supervision.meanwhile && !series) meanwhile.emplace(supervision.meanwhile);
    for (;;) {
      std::array<pollfd, 3> events{
          {{pidfd, POLLIN, 0}, {signals, POLLIN, 0}, {listener, POLLIN, 0}}};
      if (::poll(events.data(), events.size(), -1) < 0 && errno != EINTR) break;
      if (pidfd < 0 || (events[0].revents & POLLIN) != 0) break;
      if ((events[1].revents & POLLIN) != 0) hand_on(signals, supervision.process);
      if ((events[2].revents & POLLIN) != 0) take_request(listener, series);
    }
  }
  for (const int number : {pidfd, signals, listener})
    if (number >= 0) ::close(number);
  return end_as(supervision.wait());
}

std::string ask_for_checkpoint(pid_t process, bool full) {
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  const socklen_t length = address_of(process, address);
  std::string answer;
  if (socket >= 0 && ::connect(socket, reinterpret_cast<const sockaddr*>(&address), length) == 0) {
    const char* const words = full ? "full\n" : "next\n";
    if (::send(socket, words, std::strlen(words), MSG_NOSIGNAL) > 0) {
      std::array<char, 4096> bytes{};
      for (;;) {
        const ssize_t got = ::recv(socket, bytes.data(), bytes.size(), 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        answer.append(bytes.data(), static_cast<std::size_t>(got));
      }
    }
    if (answer.empty()) answer = "error: the process has ended, or is another user's\n";
  }
  if (socket >= 0) ::close(socket);
  return answer;
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
