// The budget: how much is resident, at any time, in any circumstance.
#include <sys/mman.h>

#include <iterator>
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

// A batch of victims with a page among them that the kernel does not give up: the others leave, and
// that one stays what it is.
TEST_P(Budget, APageThatIsLockedStaysAndTheOthersLeave) {
  auto pager = Pager::create({.budget_bytes = bytes(Pages{64})}).value();
  constexpr std::uint64_t kPages = 1000;
  auto source = mixed_pages();
  auto region = Region::create(*pager, bytes(Pages{kPages}), source, options()).value();
  const std::uint64_t step = words_in_page();
  constexpr std::uint64_t kLocked[] = {7, 8, 20};
  for (const std::uint64_t page : kLocked) {
    ASSERT_EQ(words(region)[page * step], mixed(page * step));
    if (::mlock2(region.data() + page * page_size(), page_size(), MLOCK_ONFAULT) != 0)
      GTEST_SKIP() << "mlock2: errno " << errno;
  }
  for (std::uint64_t round = 0; round < 3; ++round)
    for (std::uint64_t page = 0; page < kPages; ++page)
      for (const std::uint64_t i : {std::uint64_t{0}, step - 1})
        ASSERT_EQ(words(region)[page * step + i], mixed(page * step + i)) << page;
  for (const std::uint64_t page : kLocked) {
    const PageRange locked{region.data() + page * page_size(), Pages{1}};
    EXPECT_EQ(resident_in(locked), 1U);
    ::munlock(locked.base, page_size());
  }
  EXPECT_LE(region.statistics().resident_pages, 64U + std::size(kLocked));
}

INSTANTIATE_TEST_SUITE_P(Ways, Budget, ::testing::ValuesIn(kWays), way_name);

}  // namespace
}  // namespace pagetrap::pager
