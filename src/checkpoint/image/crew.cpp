#include "checkpoint/image/crew.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <exception>
#include <mutex>
#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

namespace {

constexpr std::uint64_t kReportEvery = 20'000'000;  // nanoseconds

class Crew {
 public:
  Crew(std::uint64_t count, const std::function<Result<std::uint64_t>(std::uint64_t)>& task,
       const Progress& progress, std::uint64_t total_bytes)
      : count_(count), task_(task), progress_(progress), total_bytes_(total_bytes) {}

  void work() noexcept {
    while (!over_.load(std::memory_order_relaxed)) {
      const std::uint64_t number = next_.fetch_add(1);
      if (number >= count_) return;
      try {
        const auto bytes = task_(number);
        if (!bytes) return stop(bytes.error());
        report(*bytes);
      } catch (const std::bad_alloc&) {
        stop(Error{"checkpoint image", ENOMEM});
      } catch (...) {
        // From the caller's Progress or Sink: it comes out in the thread that called us.
        const std::lock_guard lock(mutex_);
        if (!thrown_) thrown_ = std::current_exception();
        over_ = true;
      }
    }
  }

  Result<Done> outcome() {
    if (thrown_) std::rethrow_exception(thrown_);
    if (error_) return *error_;
    if (progress_ && !progress_(done_bytes_, total_bytes_)) return cancelled();
    return Done{};
  }

 private:
  static Error cancelled() { return Error{"checkpoint image", ECANCELED}; }

  void stop(const Error& error) noexcept {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
    over_ = true;
  }

  void report(std::uint64_t bytes) {
    if (!progress_) return;
    const std::lock_guard lock(mutex_);
    done_bytes_ += bytes;
    const std::uint64_t now = sys::monotonic_nanoseconds();
    if (over_ || now - reported_ < kReportEvery) return;
    reported_ = now;
    if (!progress_(done_bytes_, total_bytes_)) {
      error_ = cancelled();
      over_ = true;
    }
  }

  const std::uint64_t count_;
  const std::function<Result<std::uint64_t>(std::uint64_t)>& task_;
  const Progress& progress_;
  const std::uint64_t total_bytes_;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<bool> over_{false};

  std::mutex mutex_;  // for the rest
  std::uint64_t done_bytes_ = 0;
  std::uint64_t reported_ = 0;
  std::optional<Error> error_;
  std::exception_ptr thrown_;
};

}  // namespace

Result<Done> for_each_task(std::uint64_t count,
                           const std::function<Result<std::uint64_t>(std::uint64_t)>& task,
                           const Progress& progress, std::uint64_t total_bytes, unsigned threads) {
  if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
  Crew crew(count, task, progress, total_bytes);
  std::vector<std::thread> helpers;
  {
    // The program's signals are for its own threads.
    const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
    try {
      while (helpers.size() + 1 < std::min<std::uint64_t>(threads, count)) {
        helpers.emplace_back([&crew] { crew.work(); });
      }
    } catch (const std::system_error&) {
      // Then with fewer.
    } catch (const std::bad_alloc&) {
    }
  }
  crew.work();
  for (std::thread& helper : helpers) helper.join();
  return crew.outcome();
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
