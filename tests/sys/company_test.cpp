#include "sys/company.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap::sys {
namespace {

void wait_for(const std::atomic<bool>& flag) {
  while (!flag.load()) std::this_thread::yield();
}

// A thread that has been joined may be counted by the kernel for a moment.
bool soon_alone() {
  for (int looks = 0; looks < 2000; ++looks) {
    if (alone()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

class Company : public testing::Test {
 protected:
  void SetUp() override {
    if (threads_of_process() != 1) GTEST_SKIP() << "this program has threads (a sanitizer's)";
  }
};

TEST_F(Company, AThreadOfTheProgramIsSeen) {
  EXPECT_TRUE(alone());
  std::atomic<bool> runs{false};
  std::atomic<bool> stop{false};
  std::thread other([&] {
    runs.store(true);
    wait_for(stop);
  });
  wait_for(runs);
  EXPECT_EQ(threads_of_process(), 2u);
  EXPECT_FALSE(alone());
  stop.store(true);
  other.join();
  EXPECT_TRUE(soon_alone());
}

TEST_F(Company, AThreadOfOursIsNot) {
  std::atomic<bool> runs{false};
  std::atomic<bool> stop{false};
  std::atomic<bool> counted_out{false};
  std::atomic<bool> end{false};
  std::thread ours([&] {
    {
      const OwnThread own;
      EXPECT_FALSE(alone()) << "beside the thread that made it";
      runs.store(true);
      wait_for(stop);
    }
    counted_out.store(true);
    wait_for(end);
  });
  wait_for(runs);
  EXPECT_TRUE(alone());
  std::thread other([&] { EXPECT_FALSE(alone()); });
  other.join();
  EXPECT_TRUE(soon_alone());
  stop.store(true);
  wait_for(counted_out);
  EXPECT_FALSE(alone());
  end.store(true);
  ours.join();
  EXPECT_TRUE(soon_alone());
}

// The child has the number, but not the thread.
TEST_F(Company, NotInAChildThatHasAThreadOfItsOwn) {
  std::atomic<bool> runs{false};
  std::atomic<bool> stop{false};
  std::thread ours([&] {
    const OwnThread own;
    runs.store(true);
    wait_for(stop);
  });
  wait_for(runs);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const bool before = alone();
    std::atomic<bool> there{false};
    std::atomic<bool> enough{false};
    std::thread other([&] {
      there.store(true);
      wait_for(enough);
    });
    wait_for(there);
    const bool beside = alone();
    enough.store(true);
    other.join();
    ::_exit(before && !beside ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  stop.store(true);
  ours.join();
}

}  // namespace
}  // namespace pagetrap::sys
