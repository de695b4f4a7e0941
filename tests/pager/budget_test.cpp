// The budget: how much is resident, at any time, in any circumstance.
#include <thread>

#include "pager/support.hpp"

namespace pagetrap::pager {
namespace {

class Budget : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (!is_available(GetParam())) GTEST_SKIP() << "not on this machine";
  }
  [[nodiscard]] RegionOptions options() const { return {.backend = GetParam().backend}; }
};

TEST_P(Budget, ATebibyteInSixteenMebibytes) {
  auto pager = Pager::create({.budget_bytes = 16_MiB}).value();
  auto source = mixed_pages();
  const std::size_t size = GetParam().backend == BackendId::mprotect ? 16_GiB : 1_TiB;
  auto table = Region::create(*pager, size, source, options()).value();
  const std::uint64_t count = size / sizeof(std::uint64_t);
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    const std::uint64_t at = mixed(i) % count;
    ASSERT_EQ(words(table)[at], mixed(at));
  }
  for (std::uint64_t at = count / 3; at < count / 3 + 8'000'000; at += 64)
    ASSERT_EQ(words(table)[at], mixed(at));
  const RegionStatistics seen = table.statistics();
  EXPECT_LE(seen.resident_pages << page_shift(), 16_MiB);
  EXPECT_GT(seen.evicted, 10'000U);
  EXPECT_EQ(seen.dropped, seen.evicted);
  EXPECT_EQ(pager->statistics().over_budget, 0U);
}

TEST_P(Budget, WrittenPagesComeBack) {
  auto pager = Pager::create({.budget_bytes = bytes(Pages{64})}).value();
  constexpr std::uint64_t kPages = 1000;
  StoreSource source(kPages);
  auto region = Region::create(*pager, bytes(Pages{kPages}), source, options()).value();
  const std::uint64_t step = words_in_page();
  for (std::uint64_t round = 0; round < 3; ++round) {
    for (std::uint64_t i = 0; i < kPages; ++i) {
      const std::uint64_t page = mixed(i) % kPages;
      words(region)[page * step + i % step] = i + round;
      ASSERT_EQ(words(region)[page * step + i % step], i + round);
    }
    ASSERT_TRUE(region.flush());
    for (std::uint64_t page = 0; page < kPages; ++page)
      for (std::uint64_t i = 0; i < step; ++i)
        ASSERT_EQ(words(region)[page * step + i], source.word(page, i));
  }
  EXPECT_LE(region.statistics().resident_pages, 64U);
}

INSTANTIATE_TEST_SUITE_P(Ways, Budget, ::testing::ValuesIn(kWays), way_name);

}  // namespace
}  // namespace pagetrap::pager
