#include "series.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <utility>

#include <pagetrap/checkpoint/protocol.hpp>

#include "statistics.hpp"

namespace pagetrap::tool::process {
namespace {

using checkpoint::ProcessSaver;
using Clock = std::chrono::steady_clock;
namespace protocol = checkpoint::protocol;

constexpr std::chrono::seconds kHooksPatience{5};

}  // namespace

Series::Series(pid_t process, checkpoint::ProcessSaverOptions options, std::string report,
               std::function<void()> first)
    : process_(process),
      options_(std::move(options)),
      report_(std::move(report)),
      first_(std::move(first)),
      thread_([this] { run(); }) {}

Series::~Series() {
  {
    const std::lock_guard guard(lock_);
    over_ = true;
  }
  wake_.notify_all();
  thread_.join();
  for (const int requester : requesters_) ::close(requester);
  if (hooks_.event >= 0) ::close(hooks_.event);
}

void Series::add(const Request& request) {
  {
    const std::lock_guard guard(lock_);
    switch (request.kind) {
      case Request::Kind::next:
      case Request::Kind::full:
        requesters_.push_back(request.requester);
        full_ |= request.kind == Request::Kind::full;
        break;
      case Request::Kind::self:
        wishes_.push_back(request.address);
        break;
      case Request::Kind::hooks:
        if (hooks_.event >= 0) ::close(hooks_.event);
        hooks_ = {request.address, request.event};
        return;
      case Request::Kind::none:
        return;
    }
  }
  wake_.notify_all();
}

void Series::run() {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  // Pages that a lazy restart has yet to bring would be missing in an image.
  if (first_) first_();
  auto saver = ProcessSaver::attach(process_, options_);
  if (!saver) std::fprintf(stderr, "pagetrap: checkpoint: %s\n", describe(saver.error()).c_str());
  auto next = Clock::now() + options_.every;
  std::unique_lock guard(lock_);
  for (;;) {
    const auto wanted = [&] { return over_ || !requesters_.empty() || !wishes_.empty(); };
    if (options_.every.count() == 0) {
      wake_.wait(guard, wanted);
    } else {
      wake_.wait_until(guard, next, wanted);
    }
    if (over_) return;
    if (!wanted() && Clock::now() < next) continue;
    const std::vector<int> asked = std::exchange(requesters_, {});
    const std::vector<std::uint64_t> wishes = std::exchange(wishes_, {});
    const Hooks hooks = hooks_;
    const bool full = std::exchange(full_, false);
    guard.unlock();
    const std::string answer =
        saver ? take(*saver, full, wishes, hooks) : describe(saver.error()) + "\n";
    for (const int requester : asked) {
      // Whoever has gone away misses it.
      static_cast<void>(::send(requester, answer.data(), answer.size(), MSG_NOSIGNAL) < 0);
      ::close(requester);
    }
    next = Clock::now() + options_.every;
    guard.lock();
  }
}

// Wakes the process's thread for hooks, and waits until the first of them has run.
void Series::prepare(ProcessSaver& saver, const Hooks& hooks) const {
  const std::uint64_t one = 1;
  if (!saver.write_word(hooks.address, protocol::kPrepare) ||
      ::write(hooks.event, &one, sizeof one) != sizeof one)
    return;  // it has ended, or become another program
  const auto deadline = Clock::now() + kHooksPatience;
  while (Clock::now() < deadline) {
    const auto word = saver.read_word(hooks.address);
    if (!word || *word != protocol::kPrepare) return;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  std::fprintf(stderr,
               "pagetrap: checkpoint: the hook before the cut did not return: without it\n");
}

std::string Series::take(ProcessSaver& saver, bool full, const std::vector<std::uint64_t>& wishes,
                         const Hooks& hooks) {
  std::vector<checkpoint::CutWord> words;
  for (const std::uint64_t wish : wishes)
    words.push_back({wish, protocol::kRestarted, protocol::kSaving});
  if (hooks.event >= 0) {
    prepare(saver, hooks);
    words.push_back({hooks.address, protocol::kBegin, protocol::kGoOn});
  }
  const auto taken = saver.checkpoint({full, {}}, words);
  const int error = taken ? 0 : taken.error().number;
  // Where the process has ended, nobody waits any more.
  const std::uint32_t outcome = error == 0         ? protocol::kSaved
                                : error == ENOTSUP ? protocol::kRefused
                                                   : protocol::kFailed;
  for (const std::uint64_t wish : wishes) static_cast<void>(saver.write_word(wish, outcome));
  if (error != 0 && hooks.event >= 0)
    static_cast<void>(saver.write_word(hooks.address, protocol::kGoOn));
  if (error == 0) {
    const std::string line = json_of(*taken) + "\n";
    report(line);
    said_ = {};
    return line;
  }
  if (error == ESRCH) return "error: the process has ended\n";
  std::string answer = "error: " + describe(taken.error()) + "\n";
  for (const std::string& line : saver.refusals()) answer += "refused: " + line + "\n";
  if (answer != said_) {
    std::fprintf(stderr, "pagetrap: checkpoint: %s", answer.c_str());
    said_ = answer;  // not again and again
  }
  return answer;
}

void Series::report(const std::string& line) const {
  if (report_.empty()) return;
  std::FILE* const file = report_ == "-" ? stderr : std::fopen(report_.c_str(), "ae");
  if (file == nullptr) {
    std::fprintf(stderr, "pagetrap: %s: %s\n", report_.c_str(), std::strerror(errno));
    return;
  }
  std::fputs(line.c_str(), file);
  if (file != stderr) std::fclose(file);
}

}  // namespace pagetrap::tool::process
