#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include <pagetrap/core/result.hpp>
#include <pagetrap/core/signal_safe_text.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
namespace {

std::byte* at(std::uintptr_t address) { return reinterpret_cast<std::byte*>(address); }

TEST(Units, PageSizeIsAPowerOfTwoAndAgreesWithItsShift) {
  EXPECT_EQ(page_size(), std::size_t{1} << page_shift());
  EXPECT_GE(page_size(), 4096U);
}

TEST(Units, PagesForRoundsUpAndDoesNotWrap) {
  EXPECT_EQ(pages_for(0), Pages{0});
  EXPECT_EQ(pages_for(1), Pages{1});
  EXPECT_EQ(pages_for(page_size()), Pages{1});
  EXPECT_EQ(pages_for(page_size() + 1), Pages{2});
  const std::size_t most = std::numeric_limits<std::size_t>::max();
  EXPECT_EQ(pages_for(most), Pages{(most >> page_shift()) + 1});
}

TEST(PageRange, ContainsItsBytesAndNoOthers) {
  const PageRange range{at(16 * page_size()), Pages{2}};
  EXPECT_FALSE(range.contains(range.base - 1));
  EXPECT_TRUE(range.contains(range.base));
  EXPECT_TRUE(range.contains(range.end() - 1));
  EXPECT_FALSE(range.contains(range.end()));
  EXPECT_FALSE(range.contains(at(0)));
  EXPECT_FALSE(range.contains(at(std::numeric_limits<std::uintptr_t>::max())));
}

TEST(PageRange, ContainsRangesOnlyWhole) {
  const PageRange range{at(16 * page_size()), Pages{4}};
  EXPECT_TRUE(range.contains(range));
  EXPECT_TRUE(range.contains(PageRange{range.base + page_size(), Pages{3}}));
  EXPECT_FALSE(range.contains(PageRange{range.base + page_size(), Pages{4}}));
  EXPECT_FALSE(range.contains(PageRange{range.base - page_size(), Pages{2}}));
  EXPECT_FALSE(range.contains(PageRange{range.end() + page_size(), Pages{1}}));
  // A length whose bytes wrap around the address space.
  EXPECT_FALSE(range.contains(PageRange{range.base, Pages{(std::size_t{1} << 52) - 1}}));
}

TEST(PageRange, CoveringTakesThePagesOfBothEnds) {
  const auto covering = pages_covering(at(page_size() - 1), 2);
  EXPECT_EQ(covering.base, at(0));
  EXPECT_EQ(covering.length, Pages{2});
  EXPECT_EQ(page_of(at(3 * page_size() + 17)).base, at(3 * page_size()));
}

TEST(Result, CarriesAValueOrAnError) {
  Result<int> good = 7;
  ASSERT_TRUE(good);
  EXPECT_EQ(good.value(), 7);
  Result<int> bad = Error{"mprotect", ENOMEM};
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().number, ENOMEM);
}

TEST(Result, ValueThrowsWhatDescribeSays) {
  const Error error{"mprotect", ENOMEM, {at(page_size()), Pages{1}}, "raise the limit"};
  Result<int> bad = error;
  try {
    bad.value();
    FAIL() << "did not throw";
  } catch (const SystemError& thrown) {
    EXPECT_EQ(thrown.code().value(), ENOMEM);
    EXPECT_EQ(thrown.error().number, ENOMEM);
    EXPECT_EQ(std::string(thrown.what()), describe(error));
  }
}

TEST(Result, MovesOutWhatCannotBeCopied) {
  Result<std::unique_ptr<int>> made = std::make_unique<int>(3);
  const std::unique_ptr<int> taken = std::move(made).value();
  EXPECT_EQ(*taken, 3);
}

TEST(Describe, NamesOperationRangeErrnoAndRemedy) {
  const std::string line =
      describe({"UFFDIO_COPY", EAGAIN, {at(4 * page_size()), Pages{2}}, "try again"});
  EXPECT_NE(line.find("UFFDIO_COPY"), std::string::npos);
  EXPECT_NE(line.find("2 pages"), std::string::npos);
  EXPECT_NE(line.find("EAGAIN"), std::string::npos);
  EXPECT_NE(line.find("try again"), std::string::npos);
}

TEST(Describe, SurvivesAnErrnoThatHasNoName) {
  EXPECT_NE(describe({"x", 4095}).find("4095"), std::string::npos);
}

TEST(SignalSafeText, WritesNumbersAtTheirLimits) {
  SignalSafeText text;
  text.decimal(std::numeric_limits<std::int64_t>::min()).text(" ");
  text.unsigned_decimal(std::numeric_limits<std::uint64_t>::max()).text(" ").hex(0).text(" ");
  text.hex(std::numeric_limits<std::uint64_t>::max()).text(" ").decimal(-1);
  EXPECT_EQ(text.view(), "-9223372036854775808 18446744073709551615 0x0 0xffffffffffffffff -1");
}

TEST(SignalSafeText, WritesRanges) {
  SignalSafeText text;
  text.range({at(page_size()), Pages{1}});
  const std::string expected = page_size() == 4096 ? "[0x1000, 0x2000) 1 page" : "";
  if (!expected.empty()) {
    EXPECT_EQ(text.view(), expected);
  }
}

TEST(SignalSafeText, CutsWhatDoesNotFitAndSaysSo) {
  SignalSafeText text;
  for (int i = 0; i < 100; ++i) text.text("0123456789");
  EXPECT_LE(text.view().size(), 512U);
  EXPECT_EQ(text.view().substr(text.view().size() - 3), "...");
  const std::string before(text.view());
  text.text("more").decimal(5);
  EXPECT_EQ(text.view(), before);
}

}  // namespace
}  // namespace pagetrap
