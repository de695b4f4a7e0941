#include <pagetrap/core/units.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <type_traits>

namespace pagetrap {
namespace {

constexpr std::size_t kMost = ~std::size_t{0};

std::byte* at(std::uintptr_t address) { return reinterpret_cast<std::byte*>(address); }

TEST(Units, PageSizeIsTheKernels) {
  EXPECT_EQ(page_size(), static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(std::size_t{1} << page_shift(), page_size());
  EXPECT_GE(page_size(), 4096U);
}

TEST(Units, PagesAreNotBytes) {
  static_assert(!std::is_convertible_v<std::size_t, Pages>);
  static_assert(!std::is_constructible_v<PageRange, std::byte*, std::size_t>);
  static_assert(std::is_trivially_copyable_v<PageRange>);
  EXPECT_EQ(bytes(Pages{3}), 3 * page_size());
  EXPECT_LT(Pages{3}, Pages{4});
  EXPECT_EQ(Pages{}, Pages{0});
}

TEST(Units, PagesForRoundsUpAndSaturates) {
  EXPECT_EQ(pages_for(0), Pages{0});
  EXPECT_EQ(pages_for(1), Pages{1});
  EXPECT_EQ(pages_for(page_size()), Pages{1});
  EXPECT_EQ(pages_for(page_size() + 1), Pages{2});
  EXPECT_EQ(pages_for(kMost), Pages{(kMost >> page_shift()) + 1});
  EXPECT_EQ(pages_for(kMost - page_size() + 1), Pages{kMost >> page_shift()});
}

TEST(Units, Literals) {
  EXPECT_EQ(3_KiB, 3072U);
  EXPECT_EQ(1_MiB, 1024_KiB);
  EXPECT_EQ(1_GiB, 1024_MiB);
  EXPECT_EQ(1_TiB, 1024_GiB);
}

TEST(PageRange, ContainsAddresses) {
  const std::size_t page = page_size();
  const PageRange range{at(16 * page), Pages{4}};
  EXPECT_EQ(range.end(), at(20 * page));
  EXPECT_EQ(range.size_bytes(), 4 * page);
  EXPECT_TRUE(range.contains(at(16 * page)));
  EXPECT_TRUE(range.contains(at(20 * page - 1)));
  EXPECT_FALSE(range.contains(at(20 * page)));
  EXPECT_FALSE(range.contains(at(16 * page - 1)));
  EXPECT_FALSE(range.contains(at(0)));
  EXPECT_FALSE(range.contains(at(kMost)));
  const PageRange empty{at(16 * page), Pages{}};
  EXPECT_TRUE(empty.empty());
  EXPECT_FALSE(empty.contains(at(16 * page)));
  EXPECT_FALSE(PageRange{}.contains(static_cast<const void*>(nullptr)));
}

TEST(PageRange, ContainsRanges) {
  const std::size_t page = page_size();
  const PageRange range{at(16 * page), Pages{4}};
  EXPECT_TRUE(range.contains(range));
  EXPECT_TRUE(range.contains(PageRange{at(17 * page), Pages{3}}));
  EXPECT_TRUE(range.contains(PageRange{at(17 * page), Pages{0}}));
  EXPECT_TRUE(range.contains(PageRange{at(20 * page), Pages{0}}));
  EXPECT_FALSE(range.contains(PageRange{at(21 * page), Pages{0}}));
  EXPECT_FALSE(range.contains(PageRange{at(17 * page), Pages{4}}));
  EXPECT_FALSE(range.contains(PageRange{at(20 * page), Pages{1}}));
  EXPECT_FALSE(range.contains(PageRange{at(21 * page), Pages{1}}));
  EXPECT_FALSE(range.contains(PageRange{at(15 * page), Pages{1}}));
  EXPECT_FALSE(range.contains(PageRange{at(15 * page), Pages{2}}));
  EXPECT_FALSE(range.contains(PageRange{at(15 * page), Pages{9}}));
}

TEST(PageRange, AtBothEndsOfTheAddressSpace) {
  const std::size_t page = page_size();
  const PageRange last{at(kMost - 2 * page + 1), Pages{2}};
  EXPECT_TRUE(last.contains(at(kMost)));
  EXPECT_FALSE(last.contains(at(0)));
  EXPECT_FALSE(last.contains(at(page)));
  EXPECT_TRUE(last.contains(PageRange{at(kMost - page + 1), Pages{1}}));
  EXPECT_FALSE(last.contains(PageRange{at(kMost - page + 1), Pages{2}}));  // wraps to 0
  EXPECT_FALSE(last.contains(PageRange{at(0), Pages{1}}));
  const PageRange first{at(0), Pages{2}};
  EXPECT_TRUE(first.contains(at(0)));
  EXPECT_FALSE(first.contains(at(kMost)));
  EXPECT_FALSE(first.contains(last));
}

TEST(PageRange, CountsTooLargeForBytesAreContainedNowhere) {
  const PageRange range{at(16 * page_size()), Pages{4}};
  const std::size_t round = (kMost >> page_shift()) + 1;  // pages; 0 bytes when multiplied
  for (const std::size_t count : {round - 1, round, round + 1, round + 4, 2 * round + 1, kMost}) {
    EXPECT_FALSE(range.contains(PageRange{range.base, Pages{count}})) << count;
    EXPECT_FALSE(range.contains(PageRange{range.base + page_size(), Pages{count}})) << count;
  }
}

TEST(Units, PageOf) {
  const std::size_t page = page_size();
  EXPECT_EQ(page_of(at(0)), (PageRange{at(0), Pages{1}}));
  EXPECT_EQ(page_of(at(5 * page - 1)), (PageRange{at(4 * page), Pages{1}}));
  EXPECT_EQ(page_of(at(5 * page)), (PageRange{at(5 * page), Pages{1}}));
  EXPECT_EQ(page_of(at(kMost)), (PageRange{at(kMost - page + 1), Pages{1}}));
}

TEST(Units, PagesCovering) {
  const std::size_t page = page_size();
  EXPECT_EQ(pages_covering(at(5 * page), page), (PageRange{at(5 * page), Pages{1}}));
  EXPECT_EQ(pages_covering(at(5 * page), page + 1), (PageRange{at(5 * page), Pages{2}}));
  EXPECT_EQ(pages_covering(at(5 * page + 1), page), (PageRange{at(5 * page), Pages{2}}));
  EXPECT_EQ(pages_covering(at(6 * page - 1), 1), (PageRange{at(5 * page), Pages{1}}));
  EXPECT_EQ(pages_covering(at(6 * page - 1), 2), (PageRange{at(5 * page), Pages{2}}));
  EXPECT_EQ(pages_covering(at(page - 1), 2), (PageRange{at(0), Pages{2}}));
  EXPECT_TRUE(pages_covering(at(5 * page), 0).empty());
}

TEST(Units, PagesCoveringDoesNotWrap) {
  const PageRange all = pages_covering(at(5 * page_size() + 8), kMost);
  EXPECT_GE(all.length, pages_for(kMost));
}

}  // namespace
}  // namespace pagetrap
