#include "vm/page_states.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace pagetrap {
namespace {

std::byte* const kBase = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40);
std::byte* at(std::size_t page) { return kBase + bytes(Pages{page}); }

class Sizes : public ::testing::TestWithParam<std::size_t> {};

// Small tables live inside the object, large ones in a mapping.
TEST_P(Sizes, AgreesWithAVectorThroughManyResets) {
  constexpr std::uint64_t kSeed = 1991;
  std::mt19937 random(kSeed);
  const std::size_t count = GetParam();
  auto states = PageStates::create({kBase, Pages{count}}, PageState::missing).value();
  std::vector<PageState> oracle(count, PageState::missing);
  for (int step = 0; step < 3000; ++step) {
    const auto state = static_cast<PageState>(random() % 6);
    if (step % 100 == 99) {  // 30 resets: past the 16 epochs
      ASSERT_EQ(states.reset(state).number, 0);
      oracle.assign(count, state);
    } else {
      const std::size_t first = random() % count;
      const std::size_t length = 1 + random() % (count - first);
      states.set({at(first), Pages{length}}, state);
      std::fill_n(oracle.begin() + static_cast<std::ptrdiff_t>(first), length, state);
    }
    const std::size_t look = random() % count;
    ASSERT_EQ(states.get(at(look)), oracle[look]) << "seed " << kSeed << " step " << step;
    const PageRange run = states.run(at(look), at(count));
    std::size_t end = look;
    while (end < count && oracle[end] == oracle[look]) ++end;
    ASSERT_EQ(run.length, Pages{end - look}) << "seed " << kSeed << " step " << step;
  }
}
INSTANTIATE_TEST_SUITE_P(InlineAndMapped, Sizes, ::testing::Values(1, 7, 32, 33, 9000));

TEST(PageStates, OnlyOneClaimsAPage) {
  auto states = PageStates::create({kBase, Pages{4}}, PageState::missing).value();
  EXPECT_FALSE(states.claim(at(1), PageState::evicted));
  EXPECT_TRUE(states.claim(at(1), PageState::missing));
  EXPECT_TRUE(states.claimed(at(1)));
  EXPECT_FALSE(states.claim(at(1), PageState::missing));
  EXPECT_FALSE(states.claim_any(at(1)));
  EXPECT_EQ(states.get(at(1)), PageState::missing);
  states.set({at(1), Pages{1}}, PageState::read_write);
  EXPECT_FALSE(states.claimed(at(1)));
  EXPECT_TRUE(states.claim_any(at(1)));
}

TEST(PageStates, FirstChangedSkipsNothingThatChanged) {
  constexpr std::size_t kCount = 1 << 20;
  auto states = PageStates::create({kBase, Pages{kCount}}, PageState::missing).value();
  EXPECT_EQ(states.first_changed(at(0), at(kCount)), at(kCount));
  const std::size_t changed = 700'001;
  states.set({at(changed), Pages{1}}, PageState::read);
  const std::byte* const found = states.first_changed(at(0), at(kCount));
  EXPECT_LE(found, at(changed));
  EXPECT_GT(found, at(changed - 5000)) << "whole pages of the table are skipped";
}

TEST(PageStates, MovingKeepsASmallTable) {
  auto from = PageStates::create({kBase, Pages{4}}, PageState::read_write).value();
  from.set({at(2), Pages{1}}, PageState::guard);
  const PageStates to = std::move(from);
  EXPECT_EQ(to.get(at(2)), PageState::guard);
  EXPECT_EQ(to.get(at(3)), PageState::read_write);
}

}  // namespace
}  // namespace pagetrap
