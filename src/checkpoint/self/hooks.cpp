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
      word_.store(protocol::kIdle, std::memory_order_release);
      if (now == protocol::kGoOn) {
        call(&ProcessHooks::after_cut);
        continue;
      }
      // Another supervisor. It may be none, of a process that is not saved again.
      static_cast<void>(tell());
      call(&ProcessHooks::after_restart);
    }
  }

  std::mutex lock_;
  ProcessHooks hooks_;
  bool begun_ = false;
  sys::Descriptor event_;
  std::atomic<std::uint32_t> word_{protocol::kIdle};
};

}  // namespace

Result<Done> set_process_hooks(ProcessHooks hooks) {
  // Never destroyed: its thread may run until the process ends.
  static HookThread& thread = *new HookThread;
  return thread.set(std::move(hooks));
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
