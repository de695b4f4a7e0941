// A sink that stops until it is let go, so that a save can be caught in the middle; and fails, if
// asked to.
#pragma once

#include <condition_variable>
#include <mutex>

#include <pagetrap/checkpoint/sink.hpp>

namespace pagetrap::checkpoint {

class SlowSink final : public Sink {
 public:
  explicit SlowSink(std::unique_ptr<Sink> into, int error = 0, std::size_t passes = 4096)
      : into_(std::move(into)), error_(error), passes_(passes) {}

  Result<Done> write(std::span<const std::byte> bytes) override {
    std::unique_lock lock(lock_);
    written_ += bytes.size();
    // The header goes through before the cut.
    if (written_ > passes_) {
      stopped_ = true;
      changed_.notify_all();
      changed_.wait(lock, [this] { return released_; });
      if (error_ != 0) return Error{"write", error_};
    }
    return into_ != nullptr ? into_->write(bytes) : Result<Done>(Done{});
  }
  Result<Done> commit() override {
    committed = true;
    return into_ != nullptr ? into_->commit() : Result<Done>(Done{});
  }
  void abandon() noexcept override {
    abandoned = true;
    if (into_ != nullptr) into_->abandon();
  }

  void wait_until_stopped() {
    std::unique_lock lock(lock_);
    changed_.wait(lock, [this] { return stopped_; });
  }
  void let_go() {
    const std::lock_guard lock(lock_);
    released_ = true;
    changed_.notify_all();
  }
  std::atomic<bool> committed{false};
  std::atomic<bool> abandoned{false};

 private:
  std::unique_ptr<Sink> into_;
  const int error_;
  const std::size_t passes_;
  std::mutex lock_;
  std::condition_variable changed_;
  std::size_t written_ = 0;
  bool stopped_ = false;
  bool released_ = false;
};

}  // namespace pagetrap::checkpoint
