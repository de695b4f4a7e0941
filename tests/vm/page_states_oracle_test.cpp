// PageStates against a plain vector, and claims against each other.
#include "vm/page_states.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <thread>
#include <vector>

#include "vm/region_state.hpp"

namespace pagetrap {
namespace {

std::uint64_t g_random = 0;
std::size_t below(std::size_t limit) {
  g_random = g_random * 6364136223846793005U + 1442695040888963407U;
  return static_cast<std::size_t>((g_random >> 33) % limit);
}

constexpr std::array<PageState, 6> kAll = {PageState::missing,    PageState::evicted,
                                           PageState::none,       PageState::read,
                                           PageState::read_write, PageState::guard};

// Addresses only: nothing is mapped there.
std::byte* const kBase = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40);
std::byte* page(std::size_t index) { return kBase + bytes(Pages{index}); }
PageRange pages(std::size_t first, std::size_t count) { return {page(first), Pages{count}}; }

class PageStatesOfSize : public testing::TestWithParam<std::size_t> {};

TEST_P(PageStatesOfSize, AgreeWithAnOracle) {
  const std::size_t count = GetParam();
  g_random = 17 + count;
  std::printf("seed %llu\n", static_cast<unsigned long long>(g_random));
  PageStates states = PageStates::create(pages(0, count), PageState::missing).value();
  std::vector<PageState> oracle(count, PageState::missing);
  PageState initial = PageState::missing;
  for (unsigned step = 0; step < 4000; ++step) {
    const std::size_t first = below(count);
    const std::size_t length = 1 + below(std::min<std::size_t>(count - first, 80));
    const PageState state = kAll[below(kAll.size())];
    if (below(40) == 0) {
      ASSERT_FALSE(failed(states.reset(state)));
      initial = state;
      std::fill(oracle.begin(), oracle.end(), state);
      if (count > 100) continue;  // let epochs follow each other with little in between
    }
    if (below(4) == 0) {
      states.set_one(page(first), state);
      oracle[first] = state;
    } else {
      states.set(pages(first, length), state);
      std::fill_n(oracle.begin() + static_cast<std::ptrdiff_t>(first), length, state);
    }
    ASSERT_EQ(states.initial(), initial);
    const std::size_t from = below(count);
    const std::size_t end = from + 1 + below(count - from);
    std::size_t run = from;
    while (run < end && oracle[run] == oracle[from]) ++run;
    ASSERT_EQ(states.run(page(from), page(end)), pages(from, run - from)) << step;
    ASSERT_EQ(states.get(page(from) + page_size() - 1), oracle[from]);
    for (unsigned look = 0; look < 16; ++look) {
      const std::size_t i = below(count);
      ASSERT_EQ(states.get(page(i)), oracle[i]) << "page " << i << " step " << step;
    }
    // Whatever differs from the initial state lies at or after the first changed page.
    const std::byte* const changed = states.first_changed(page(from), page(end));
    ASSERT_GE(changed, page(from));
    ASSERT_LE(changed, page(end));
    for (std::size_t i = from; i < end && page(i) < changed; ++i) ASSERT_EQ(oracle[i], initial);
  }
}

INSTANTIATE_TEST_SUITE_P(Vm, PageStatesOfSize,
                         testing::Values<std::size_t>(1, 7, 32, 33, 600, 9000));

TEST(PageStates, FirstChangedSkipsWhatWasNeverTouched) {
  constexpr std::size_t kMany = std::size_t{1} << 22;
  PageStates states = PageStates::create(pages(0, kMany), PageState::read_write).value();
  EXPECT_EQ(states.first_changed(page(0), page(kMany)), page(kMany));
  states.set(pages(3'000'000, 1), PageState::read);
  std::byte* const changed = states.first_changed(page(0), page(kMany));
  EXPECT_LE(changed, page(3'000'000));
  EXPECT_GT(changed, page(3'000'000 - 2 * page_size()));  // a byte a page: one page of the table
  EXPECT_EQ(states.first_changed(page(3'000'000), page(kMany)), page(3'000'000));
}

TEST(PageStates, MovedTablesKeepTheirStates) {
  for (const std::size_t count : {std::size_t{8}, std::size_t{4000}}) {
    PageStates first = PageStates::create(pages(0, count), PageState::none).value();
    ASSERT_FALSE(failed(first.reset(PageState::missing)));
    first.set(pages(2, 3), PageState::read);
    PageStates second(std::move(first));
    for (std::size_t i = 0; i < count; ++i)
      EXPECT_EQ(second.get(page(i)), i >= 2 && i < 5 ? PageState::read : PageState::missing) << i;
    PageStates third;
    third = std::move(second);
    third.set(pages(0, 1), PageState::guard);
    EXPECT_EQ(third.get(page(0)), PageState::guard);
    EXPECT_EQ(third.get(page(3)), PageState::read);
  }
}

TEST(PageStates, ClaimsAreExclusive) {
  constexpr std::size_t kPages = 2000;
  PageStates states = PageStates::create(pages(0, kPages), PageState::missing).value();
  states.set(pages(0, 10), PageState::read);
  EXPECT_FALSE(states.claim(page(0), PageState::missing));
  EXPECT_TRUE(states.claim(page(0), PageState::read));
  EXPECT_TRUE(states.claimed(page(0)));
  EXPECT_FALSE(states.claim(page(0), PageState::read));
  EXPECT_FALSE(states.claim(page(0), PageState::missing));  // which get() says it is
  EXPECT_EQ(states.get(page(0)), PageState::missing);
  EXPECT_FALSE(states.claim_any(page(0)));
  states.set(pages(0, 1), PageState::read_write);
  EXPECT_FALSE(states.claimed(page(0)));
  EXPECT_TRUE(states.claim_any(page(0)));
  std::array<std::size_t, 4> won{};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < won.size(); ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 10; i < kPages; ++i)
        won[t] += states.claim(page(i), PageState::missing) ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(won[0] + won[1] + won[2] + won[3], kPages - 10);
}

TEST(InFlight, WaitsForThoseInside) {
  InFlight in_flight;
  in_flight.wait();
  std::atomic<bool> waited{false};
  const unsigned phase = in_flight.enter();
  std::thread waiter([&] {
    in_flight.wait();
    waited.store(true);
  });
  for (unsigned i = 0; i < 100; ++i) {
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
  InFlight in_flight;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      while (!stop.load()) {
        const unsigned phase = in_flight.enter();
        in_flight.leave(phase);
      }
    });
  }
  for (unsigned i = 0; i < 2000; ++i) in_flight.wait();
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
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
    in_flight.wait();
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
  in_flight.wait();
}

}  // namespace
}  // namespace pagetrap
