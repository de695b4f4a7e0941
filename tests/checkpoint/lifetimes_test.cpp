// Who may outlive whom: saves, their checkpointer, and fork()ed children.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>

#include "checkpoint/support.hpp"

namespace pagetrap::checkpoint {
namespace {

/// Takes its time; tells when it is committed.
class SlowSink final : public Sink {
 public:
  explicit SlowSink(std::atomic<bool>* committed = nullptr) : committed_(committed) {}
  Result<Done> write(std::span<const std::byte> /*bytes*/) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return Done{};
  }
  Result<Done> commit() override {
    if (committed_ != nullptr) committed_->store(true);
    return Done{};
  }
  void abandon() noexcept override {}

 private:
  std::atomic<bool>* committed_;
};

class Lifetimes : public ::testing::Test {
 protected:
  void SetUp() override { begin({}); }
  void begin(const CheckpointerOptions& options) {
    checkpointer_.reset();
    auto made = Checkpointer::create(options);
    if (!made) GTEST_SKIP() << describe(made.error());
    checkpointer_.emplace(std::move(*made));
    Arena& arena = *checkpointer_->arena("heap", std::size_t{64} << 20).value();
    bulk_ = static_cast<std::byte*>(arena.resource()->allocate(kBulk, 4096));
    for (std::size_t i = 0; i < kBulk; i += sizeof i) {
      const std::size_t random = i * 0x9E3779B97F4A7C15;
      std::memcpy(bulk_ + i, &random, sizeof random);
    }
  }
  /// The exit code of `work` in a child; 1000 and more: a signal, as that of a hang.
  template <class Work>
  static int in_child(Work work) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(20);
      ::_exit(work());
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  static constexpr std::size_t kBulk = std::size_t{16} << 20;
  std::optional<Checkpointer> checkpointer_;
  std::byte* bulk_ = nullptr;
};

TEST_F(Lifetimes, AChildMadeDuringASaveSaves) {
  auto saving = checkpointer_->checkpoint_async(std::make_unique<SlowSink>());
  EXPECT_EQ(0, in_child([this] {
              bulk_[5] = std::byte{1};
              SlowSink sink;
              if (!checkpointer_->checkpoint(sink)) return 1;
              checkpointer_.reset();
              return 0;
            }));
  EXPECT_TRUE(saving.get());
}

TEST_F(Lifetimes, AChildEndsACheckpointerThatHadASeries) {
  const Folder folder;
  PeriodicOptions series;
  series.directory = folder.path();
  ASSERT_TRUE(checkpointer_->start_periodic(series));
  EXPECT_EQ(0, in_child([this] {
              checkpointer_.reset();
              return 0;
            }));
}

TEST_F(Lifetimes, ACheckpointerWaitsForItsSave) {
  std::atomic<bool> committed = false;
  auto saving = checkpointer_->checkpoint_async(std::make_unique<SlowSink>(&committed));
  checkpointer_.reset();
  EXPECT_TRUE(committed.load());
  EXPECT_TRUE(saving.get());
}

TEST_F(Lifetimes, ProgressIsToldByOneThreadAtATime) {
  CheckpointerOptions options;
  options.compression = Compression::zstd;
  options.threads = 4;
  begin(options);
  std::atomic<int> inside = 0;
  std::atomic<int> overlaps = 0;
  std::atomic<int> calls = 0;
  SaveOptions how;
  how.progress = [&](std::uint64_t /*done*/, std::uint64_t /*total*/) {
    if (inside.fetch_add(1) > 0) overlaps.fetch_add(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    inside.fetch_sub(1);
    calls.fetch_add(1);
    return true;
  };
  SlowSink sink;
  ASSERT_TRUE(checkpointer_->checkpoint(sink, how));
  EXPECT_GT(calls.load(), 0);
  EXPECT_EQ(overlaps.load(), 0);
}

}  // namespace
}  // namespace pagetrap::checkpoint
