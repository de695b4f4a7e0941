#include "vm/region_state.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace pagetrap {
namespace {

TEST(InFlight, WaitReturnsOnlyAfterThoseInsideLeft) {
  InFlight in_flight;
  const unsigned phase = in_flight.enter();
  std::atomic<bool> returned{false};
  std::thread waiter([&] {
    in_flight.wait();
    returned = true;
  });
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_FALSE(returned);
  in_flight.leave(phase);
  waiter.join();
  EXPECT_TRUE(returned);
}

TEST(InFlight, NewcomersDoNotHoldUpAWait) {
  InFlight in_flight;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      while (!stop) {
        const unsigned outer = in_flight.enter();
        const unsigned inner = in_flight.enter();  // never empty for long
        in_flight.leave(outer);
        in_flight.leave(inner);
      }
    });
  for (int i = 0; i < 200; ++i) in_flight.wait();
  stop = true;
  for (auto& thread : threads) thread.join();
}

TEST(Pinned, FindsNothingAfterTheRegionEnded) {
  std::byte* place = nullptr;
  {
    auto region = Region::create(page_size(), {.backend = BackendId::null}).value();
    place = region.data();
    EXPECT_NE(Pinned::find(place).get(), nullptr);
    EXPECT_EQ(Pinned::find(place - 1).get(), nullptr);
  }
  EXPECT_EQ(Pinned::find(place).get(), nullptr) << "the thread remembers its last region";
  // The pooled state serves another region now.
  auto next = Region::create(page_size(), {.backend = BackendId::null}).value();
  EXPECT_NE(Pinned::find(next.data()).get(), nullptr);
}

}  // namespace
}  // namespace pagetrap
