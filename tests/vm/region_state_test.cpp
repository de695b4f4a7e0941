#include "vm/region_state.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace pagetrap {
namespace {

constexpr std::uint64_t kLongest = 10'000'000'000;  // ns; a wait as long as this has failed

TEST(InFlight, WaitsForThoseInside) {
  InFlight in_flight;
  EXPECT_TRUE(in_flight.wait(kLongest));
  std::atomic<bool> waited{false};
  const unsigned phase = in_flight.enter();
  std::thread waiter([&] {
    EXPECT_TRUE(in_flight.wait(kLongest));
    waited.store(true);
  });
  for (unsigned i = 0; i < 1000; ++i) {
    std::this_thread::yield();
    EXPECT_FALSE(waited.load());
  }
  // A stream of new ones does not hold it up.
  const unsigned later = in_flight.enter();
  in_flight.leave(later);
  in_flight.leave(phase);
  waiter.join();
  EXPECT_TRUE(waited.load());
}

TEST(InFlight, NewcomersDoNotHoldUpAWait) {
  for (const bool overlapping : {false, true}) {
    InFlight in_flight;
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        while (!stop.load()) {
          unsigned phase = in_flight.enter();
          if (overlapping) {  // never empty for long
            const unsigned next = in_flight.enter();
            in_flight.leave(phase);
            phase = next;
          }
          in_flight.leave(phase);
        }
      });
    }
    const unsigned waits = overlapping ? 200 : 2000;
    for (unsigned i = 0; i < waits; ++i) EXPECT_TRUE(in_flight.wait(kLongest));
    stop.store(true);
    for (std::thread& thread : threads) thread.join();
  }
}

// What a wait() is for: nobody is inside with a thing that was replaced before it.
TEST(InFlight, ProtectsWhatItGuards) {
  struct Thing {
    std::atomic<bool> dead{false};
  };
  std::vector<Thing> things(3000);
  std::atomic<Thing*> current{things.data()};
  InFlight in_flight;
  std::atomic<bool> stop{false};
  std::atomic<unsigned> used_dead{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      while (!stop.load()) {
        const unsigned phase = in_flight.enter();
        Thing* const thing = current.load(std::memory_order_seq_cst);
        for (unsigned i = 0; i < 20; ++i)
          if (thing->dead.load(std::memory_order_relaxed)) used_dead.fetch_add(1);
        in_flight.leave(phase);
      }
    });
  }
  for (std::size_t i = 1; i < things.size(); ++i) {
    current.store(&things[i], std::memory_order_seq_cst);
    EXPECT_TRUE(in_flight.wait(kLongest));
    things[i - 1].dead.store(true, std::memory_order_relaxed);
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(used_dead.load(), 0U);
}

TEST(InFlight, ForgetsInAChild) {
  InFlight in_flight;
  static_cast<void>(in_flight.enter());
  in_flight.forget();
  EXPECT_TRUE(in_flight.wait(kLongest));
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
