#include "sys/tasks.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap::sys {
namespace {

TEST(Tasks, ListsEveryThread) {
  const auto mine = list_threads();
  ASSERT_TRUE(mine);
  const std::size_t before = mine->size();
  std::atomic<bool> stop{false};
  std::array<std::atomic<pid_t>, 6> ids{};
  std::vector<std::thread> threads;
  for (auto& id : ids) {
    threads.emplace_back([&] {
      id.store(thread_id());
      while (!stop.load()) std::this_thread::yield();
    });
  }
  for (auto& id : ids)
    while (id.load() == 0) std::this_thread::yield();
  const auto all = list_threads();
  ASSERT_TRUE(all);
  EXPECT_EQ(all->size(), before + ids.size());
  for (auto& id : ids) EXPECT_EQ(std::count(all->begin(), all->end(), id.load()), 1);
  EXPECT_EQ(std::count(all->begin(), all->end(), thread_id()), 1);
  EXPECT_FALSE(thread_takes_no_signals(ids[0].load()));
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  for (auto& id : ids)
    while (!thread_takes_no_signals(id.load())) std::this_thread::yield();
  EXPECT_FALSE(thread_takes_no_signals(thread_id()));
}

TEST(Tasks, ListIsCompleteWhileThreadsComeAndGo) {
  std::atomic<bool> stop{false};
  std::atomic<pid_t> steady{0};
  std::thread stays([&] {
    steady.store(thread_id());
    while (!stop.load()) std::this_thread::yield();
  });
  std::thread breeder([&] {
    while (!stop.load()) std::thread([] {}).join();
  });
  while (steady.load() == 0) std::this_thread::yield();
  for (unsigned round = 0; round < 300; ++round) {
    const auto all = list_threads();
    ASSERT_TRUE(all);
    ASSERT_EQ(std::count(all->begin(), all->end(), steady.load()), 1);
    ASSERT_EQ(std::count(all->begin(), all->end(), thread_id()), 1);
  }
  stop.store(true);
  stays.join();
  breeder.join();
}

}  // namespace
}  // namespace pagetrap::sys
