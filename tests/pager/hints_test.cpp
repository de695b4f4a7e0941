// Pins, hints, limits, and the budget at run time.
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "pager/support.hpp"

namespace pagetrap::pager {
namespace {

class Hints : public ::testing::TestWithParam<Way> {
 protected:
  static constexpr std::uint64_t kPages = 1024;
  void SetUp() override {
    if (!is_available(GetParam())) GTEST_SKIP() << "not on this machine";
  }
  Region region(RegionOptions options = {}) {
    options.backend = GetParam().backend;
    return Region::create(*pager_, bytes(Pages{kPages}), source_, options).value();
  }
  static PageRange part(const Region& region, std::uint64_t first, std::size_t count) {
    return {region.data() + bytes(Pages{first}), Pages{count}};
  }
  static bool is_resident(const Region& region, std::uint64_t page) {
    return resident_in(part(region, page, 1)) == 1;
  }
  static void read_all(const Region& region) {
    for (std::uint64_t page = 0; page < kPages; ++page)
      static_cast<void>(words(region)[page * words_in_page()]);
  }
  std::unique_ptr<Pager> pager_ = Pager::create({.budget_bytes = bytes(Pages{128})}).value();
  StoreSource source_{kPages, {.retains_copy = true}};
};

TEST_P(Hints, PinnedPagesStay) {
  auto paged = region({.prefetch = false});
  auto pin = paged.pin(part(paged, 10, 20)).value();
  Pin again = paged.pin(part(paged, 20, 1)).value();
  for (std::uint64_t page = 10; page < 30; ++page) words(paged)[page * words_in_page()] = page;
  read_all(paged);
  ASSERT_TRUE(paged.evict_all());
  EXPECT_EQ(resident_in(paged.range()), 20U);
  EXPECT_EQ(source_.word(15, 0), 0U);
  ASSERT_TRUE(paged.flush());  // what is pinned too
  EXPECT_EQ(source_.word(15, 0), 15U);
  pin.reset();
  ASSERT_TRUE(paged.evict_all());
  EXPECT_EQ(resident_in(paged.range()), 1U);
  EXPECT_EQ(words(paged)[15 * words_in_page()], 15U);
}

TEST_P(Hints, NotEverythingCanBePinned) {
  auto paged = region();
  EXPECT_EQ(paged.pin(part(paged, 0, 128)).error().number, ENOMEM);
  const Pin most = paged.pin(part(paged, 0, 100)).value();
  EXPECT_EQ(paged.pin(part(paged, 100, 28)).error().number, ENOMEM);
  read_all(paged);
  EXPECT_EQ(pager_->set_budget(bytes(Pages{50})).error().number, ENOMEM);
  EXPECT_EQ(paged.statistics().resident_pages, 100U);
}

TEST_P(Hints, WillNeedBringsAsMuchAsThereIsRoomFor) {
  auto paged = region({.prefetch = false});
  ASSERT_TRUE(paged.will_need(part(paged, 40, 30), false));
  EXPECT_EQ(resident_in(part(paged, 40, 30)), 30U);
  EXPECT_EQ(paged.statistics().faults, 0U);
  ASSERT_TRUE(paged.will_need(paged.range(), false));
  EXPECT_EQ(paged.statistics().resident_pages, 128U);
  EXPECT_EQ(paged.statistics().evicted, 0U);
}

TEST_P(Hints, WillNeedInTheBackground) {
  auto paged = region();
  ASSERT_TRUE(paged.will_need(part(paged, 40, 30)));
  for (int i = 0; i < 1000 && paged.statistics().prefetched < 30; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(resident_in(part(paged, 40, 30)), 30U);
}

TEST_P(Hints, DontNeedGoesFirst) {
  auto paged = region({.fault_around = 1, .prefetch = false});
  for (std::uint64_t page = 0; page < 128; ++page)
    static_cast<void>(words(paged)[page * words_in_page()]);
  ASSERT_TRUE(paged.dont_need(part(paged, 100, 16)));
  for (std::uint64_t page = 500; page < 516; ++page)
    static_cast<void>(words(paged)[page * words_in_page()]);
  EXPECT_FALSE(is_resident(paged, 100));
  EXPECT_FALSE(is_resident(paged, 115));
  // Of the others no more than the rest of a batch.
  EXPECT_GE(resident_in(part(paged, 0, 100)), 84U);
  EXPECT_TRUE(is_resident(paged, 127));
}

TEST_P(Hints, SequentialReadersFaultSeldom) {
  auto paged = region({.prefetch = false});
  read_all(paged);
  EXPECT_LE(paged.statistics().faults, kPages / 16);
  auto told = region({.prefetch = false});
  told.sequential(true);
  read_all(told);
  EXPECT_LE(told.statistics().faults, kPages / 32);
}

TEST_P(Hints, RandomReadersBringNothingElse) {
  auto paged = region();
  for (std::uint64_t i = 0; i < 500; ++i)
    static_cast<void>(words(paged)[mixed(i) % kPages * words_in_page()]);
  const auto seen = paged.statistics();
  EXPECT_LE(seen.filled, seen.faults + seen.faults / 10);
}

TEST_P(Hints, ALimitOfItsOwn) {
  auto paged = region({.limit_bytes = bytes(Pages{10})});
  read_all(paged);
  EXPECT_LE(resident_in(paged.range()), 10U);
  ASSERT_TRUE(paged.set_limit(bytes(Pages{3})));
  EXPECT_LE(resident_in(paged.range()), 3U);
  read_all(paged);
  EXPECT_LE(resident_in(paged.range()), 3U);
}

TEST_P(Hints, TheBudgetMayChangeAtAnyTime) {
  auto paged = region();
  read_all(paged);
  for (const std::size_t pages : {64UL, 1UL, 100UL, 16UL}) {
    ASSERT_TRUE(pager_->set_budget(bytes(Pages{pages})));
    EXPECT_LE(resident_in(paged.range()), pages);
    read_all(paged);
    EXPECT_LE(resident_in(paged.range()), pages);
  }
  EXPECT_EQ(pager_->set_budget(100).error().number, EINVAL);
}

TEST_P(Hints, DiscardedPagesAreFresh) {
  auto paged = region();
  for (std::uint64_t page = 0; page < 200; ++page) words(paged)[page * words_in_page()] = page + 1;
  ASSERT_TRUE(paged.discard(part(paged, 50, 100)));
  for (std::uint64_t page = 0; page < 200; ++page)
    EXPECT_EQ(words(paged)[page * words_in_page()], page >= 50 && page < 150 ? 0 : page + 1);
}

TEST_P(Hints, RangesAreChecked) {
  auto paged = region();
  const PageRange outside{paged.data() + paged.size_bytes(), Pages{1}};
  const PageRange skewed{paged.data() + 8, Pages{1}};
  for (const PageRange& range : {outside, skewed, PageRange{paged.data(), Pages{0}}}) {
    EXPECT_EQ(paged.pin(range).error().number, EINVAL);
    EXPECT_EQ(paged.will_need(range).error().number, EINVAL);
    EXPECT_EQ(paged.dont_need(range).error().number, EINVAL);
    EXPECT_EQ(paged.discard(range).error().number, EINVAL);
  }
}

TEST_P(Hints, RegionsShareABudgetAndEnd) {
  StoreSource other_source(kPages);
  auto paged = region({.prefetch = false});
  {
    auto other = Region::create(*pager_, bytes(Pages{kPages}), other_source,
                                {.prefetch = false, .backend = GetParam().backend})
                     .value();
    for (std::uint64_t page = 0; page < kPages; ++page) {
      words(other)[page * words_in_page()] = page;
      words(paged)[page * words_in_page()] = page;
    }
    EXPECT_LE(pager_->statistics().resident_bytes, bytes(Pages{128}));
    EXPECT_GT(other.statistics().resident_pages, 0U);
  }
  for (std::uint64_t page = 0; page < kPages; ++page)
    EXPECT_EQ(words(paged)[page * words_in_page()], page);
  paged.quiesce();  // a page is shown before it is counted
  EXPECT_EQ(pager_->statistics().resident_bytes, bytes(Pages{paged.statistics().resident_pages}));
}

TEST_P(Hints, AdoptedMemoryKeepsItsContents) {
  void* const mapped = ::mmap(nullptr, bytes(Pages{kPages}), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  const PageRange range{static_cast<std::byte*>(mapped), Pages{kPages}};
  ::madvise(mapped, bytes(Pages{kPages}), MADV_NOHUGEPAGE);
  auto* const memory = static_cast<volatile std::uint64_t*>(mapped);
  for (std::uint64_t page = 0; page < kPages; page += 2) memory[page * words_in_page()] = page + 1;
  {
    auto paged = Region::adopt(*pager_, range, source_, {.backend = GetParam().backend}).value();
    EXPECT_LE(resident_in(range), 128U);
    for (std::uint64_t page = 0; page < kPages; ++page)
      ASSERT_EQ(memory[page * words_in_page()], page % 2 == 0 ? page + 1 : 0);
  }
  ::munmap(mapped, bytes(Pages{kPages}));
}

// The program's own madvise(), which nobody tells us of: the page reads as zeroes, as all memory
// does, for whoever looks at it next: the program, an eviction, a flush.
TEST_P(Hints, ThePagesThatTheProgramDropsAreZeroes) {
  for (const bool alone : {true, false}) {
    auto paged = region({.prefetch = false});
    std::atomic<bool> stop{false};
    std::thread other;
    if (!alone)
      other = std::thread([&] {
        while (!stop.load()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      });
    const auto write = [&](std::uint64_t value) {
      for (std::uint64_t page = 0; page < 32; ++page) words(paged)[page * words_in_page()] = value;
    };
    const auto drop = [&](std::uint64_t page) {
      ASSERT_EQ(::madvise(paged.data() + bytes(Pages{page}), page_size(), MADV_DONTNEED), 0);
    };
    const auto expect = [&](std::uint64_t value, std::uint64_t dropped) {
      for (std::uint64_t page = 0; page < 32; ++page)
        ASSERT_EQ(words(paged)[page * words_in_page()], page == dropped ? 0 : value) << page;
    };
    write(1);
    drop(5);
    expect(1, 5);
    write(2);
    drop(6);
    ASSERT_TRUE(paged.evict_all());
    expect(2, 6);
    write(3);
    drop(7);
    ASSERT_TRUE(paged.flush());
    expect(3, 7);
    ASSERT_TRUE(paged.evict_all());
    expect(3, 7);
    stop.store(true);
    if (other.joinable()) other.join();
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, Hints, ::testing::ValuesIn(kWays), way_name);

}  // namespace
}  // namespace pagetrap::pager
