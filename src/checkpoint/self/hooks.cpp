// A thread that runs hooks. It waits in a read of an eventfd, which an image can have.
#include <pagetrap/checkpoint/protocol.hpp>
#include <pagetrap/checkpoint/self.hpp>

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <ctime>
#include <mutex>
#include <system_error>
#include <thread>

#include "checkpoint/self/ask.hpp"
#include "checkpoint/self/hooks.hpp"
#include "sys/fd.hpp"
#include "vm/no_signals.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

class HookThread {
 public:
  Result<Done> set(ProcessHooks hooks) {
    const std::lock_guard guard(lock_);
    if (!begun_) {
      event_ = sys::Descriptor(::eventfd(0, EFD_CLOEXEC));
      if (!event_.valid()) return Error{"eventfd", errno};
      if (auto told = tell(); !told) return told;
      try {
        const NoSignals none;
        std::thread([this] { run(); }).detach();
      } catch (const std::system_error& refused) {
        return Error{"set_process_hooks()", refused.code().value()};
      }
      begun_ = true;
    }
    hooks_ = std::move(hooks);
    return Done{};
  }

  /// Until what follows the last cut has run.
  void wait() const {
    if (!begun_.load()) return;
    const timespec turn{0, 1'000'000};
    for (;;) {
      const std::uint32_t now = word_.load(std::memory_order_acquire);
      if (now != protocol::kGoOn && now != protocol::kBegin) return;
      ::nanosleep(&turn, nullptr);
    }
  }

 private:
  Result<Done> tell() { return ask_supervisor("hooks", &word_, event_.get()); }

  void call(std::function<void()> ProcessHooks::*which) {
    std::function<void()> hook;
    {
      const std::lock_guard guard(lock_);
      hook = hooks_.*which;
    }
    if (hook) hook();
  }

  [[noreturn]] void run() {
    for (;;) {
      std::uint64_t count = 0;
      // Interrupted or not: the word says what there is to do.
      static_cast<void>(::read(event_.get(), &count, sizeof count) < 0);
      if (word_.load(std::memory_order_acquire) != protocol::kPrepare) continue;
      call(&ProcessHooks::before_cut);
      // RACE the supervisor may have given up waiting, and have written kGoOn: that stays.
      std::uint32_t prepare = protocol::kPrepare;
      word_.compare_exchange_strong(prepare, protocol::kReady);
      const timespec turn{0, 1'000'000};
      std::uint32_t now = 0;
      while ((now = word_.load(std::memory_order_acquire)) != protocol::kGoOn &&
             now != protocol::kBegin)
        ::nanosleep(&turn, nullptr);
      if (now == protocol::kGoOn) {
        call(&ProcessHooks::after_cut);
      } else {
        // Another supervisor. It may be none, of a process that is not saved again.
        static_cast<void>(tell());
        call(&ProcessHooks::after_restart);
      }
      // RACE the next cut may be prepared by now: then that stays.
      word_.compare_exchange_strong(now, protocol::kIdle);
    }
  }

  std::mutex lock_;
  ProcessHooks hooks_;
  std::atomic<bool> begun_{false};
  sys::Descriptor event_;
  std::atomic<std::uint32_t> word_{protocol::kIdle};
};

}  // namespace

namespace {
// Never destroyed: its thread may run until the process ends.
HookThread& hook_thread() {
  static HookThread& thread = *new HookThread;
  return thread;
}
}  // namespace

Result<Done> set_process_hooks(ProcessHooks hooks) { return hook_thread().set(std::move(hooks)); }

void wait_for_hooks() { hook_thread().wait(); }

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
