#include "vm/page_states.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <thread>
#include <utility>
#include <vector>

#include "vm/process_files.hpp"

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

// Small tables live inside the object, large ones in a mapping.
class PageStatesOfSize : public testing::TestWithParam<std::size_t> {};

TEST_P(PageStatesOfSize, AgreeWithAnOracle) {
  const std::size_t count = GetParam();
  g_random = 17 + count;
  std::printf("seed %llu\n", static_cast<unsigned long long>(g_random));
  open_process_files();  // as the first region does; first_changed() may ask pagemap
  PageStates states = PageStates::create(pages(0, count), PageState::missing).value();
  std::vector<PageState> oracle(count, PageState::missing);
  PageState initial = PageState::missing;
  for (unsigned step = 0; step < 4000; ++step) {
    const std::size_t first = below(count);
    const std::size_t most = below(4) == 0 ? count : 80;
    const std::size_t length = 1 + below(std::min(count - first, most));
    const PageState state = kAll[below(kAll.size())];
    if (below(40) == 0) {  // past the 16 epochs, several times
      states.reset(state);
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
    const std::size_t end = below(2) == 0 ? count : from + 1 + below(count - from);
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
  open_process_files();
  for (const std::size_t index : {std::size_t{700'001}, std::size_t{3'000'000}}) {
    PageStates states = PageStates::create(pages(0, kMany), PageState::read_write).value();
    EXPECT_EQ(states.first_changed(page(0), page(kMany)), page(kMany));
    states.set(pages(index, 1), PageState::read);
    std::byte* const changed = states.first_changed(page(0), page(kMany));
    EXPECT_LE(changed, page(index));
    EXPECT_GT(changed, page(index - page_size()));  // a byte a page: within one page of the table
    EXPECT_EQ(states.first_changed(page(index), page(kMany)), page(index));
  }
}

TEST(PageStates, MovedTablesKeepTheirStates) {
  for (const std::size_t count : {std::size_t{4}, std::size_t{8}, std::size_t{4000}}) {
    for (const bool after_reset : {false, true}) {
      PageStates first = PageStates::create(pages(0, count), PageState::read_write).value();
      if (after_reset) {
        first.reset(PageState::missing);
      }
      const PageState initial = after_reset ? PageState::missing : PageState::read_write;
      first.set(pages(1, 2), PageState::read);
      PageStates second(std::move(first));
      for (std::size_t i = 0; i < count; ++i)
        EXPECT_EQ(second.get(page(i)), i >= 1 && i < 3 ? PageState::read : initial) << i;
      PageStates third;
      third = std::move(second);
      third.set(pages(0, 1), PageState::guard);
      EXPECT_EQ(third.get(page(0)), PageState::guard);
      EXPECT_EQ(third.get(page(2)), PageState::read);
      EXPECT_EQ(third.get(page(3)), initial);
    }
  }
}

// One thread after the other, in a small table and a large one.
TEST(PageStates, AClaimedPageIsNobodyElses) {
  for (const std::size_t count : {std::size_t{4}, std::size_t{2000}}) {
    PageStates states = PageStates::create(pages(0, count), PageState::missing).value();
    states.set(pages(0, 1), PageState::read);
    EXPECT_FALSE(states.claim(page(0), PageState::missing));
    EXPECT_TRUE(states.claim(page(0), PageState::read));
    EXPECT_FALSE(states.claim(page(1), PageState::evicted));
    EXPECT_TRUE(states.claim(page(1), PageState::missing));
    EXPECT_FALSE(states.claimed(page(2)));
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_TRUE(states.claimed(page(i)));
      EXPECT_FALSE(states.claim(page(i), PageState::read));
      EXPECT_FALSE(states.claim(page(i), PageState::missing));  // which get() says it is
      EXPECT_EQ(states.get(page(i)), PageState::missing);
      EXPECT_FALSE(states.claim_any(page(i)));
      states.set(pages(i, 1), PageState::read_write);
      EXPECT_FALSE(states.claimed(page(i)));
      EXPECT_TRUE(states.claim_any(page(i)));
    }
  }
}

TEST(PageStates, OneOfSeveralThreadsClaimsAPage) {
  constexpr std::size_t kPages = 2000;
  PageStates states = PageStates::create(pages(0, kPages), PageState::missing).value();
  std::array<std::size_t, 4> won{};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < won.size(); ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < kPages; ++i)
        won[t] += states.claim(page(i), PageState::missing) ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(won[0] + won[1] + won[2] + won[3], kPages);
}

}  // namespace
}  // namespace pagetrap
