#include <pagetrap/core/result.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>

namespace pagetrap {
namespace {

using testing::HasSubstr;

Result<int> seven() { return 7; }
Result<int> refused() {
  return Error{"mprotect", ENOMEM, {reinterpret_cast<std::byte*>(0x10000), Pages{3}}, "try less"};
}

TEST(Result, CarriesAValue) {
  Result<int> result = seven();
  ASSERT_TRUE(result);
  EXPECT_EQ(*result, 7);
  EXPECT_EQ(result.value(), 7);
  result.value() = 8;
  *result += 1;
  const Result<int>& same = result;
  EXPECT_EQ(same.value(), 9);
  EXPECT_EQ(*same, 9);
  EXPECT_EQ(seven().value(), 7);
}

TEST(Result, CarriesAnError) {
  const Result<int> result = refused();
  ASSERT_FALSE(result);
  EXPECT_STREQ(result.error().operation, "mprotect");
  EXPECT_EQ(result.error().number, ENOMEM);
  EXPECT_EQ(result.error().range.length, Pages{3});
  EXPECT_STREQ(result.error().remedy, "try less");
}

TEST(Result, HoldsWhatCannotBeCopied) {
  Result<std::unique_ptr<std::string>> result(std::make_unique<std::string>("pages"));
  ASSERT_TRUE(result);
  EXPECT_EQ(**result, "pages");
  EXPECT_EQ(result->get(), result.value().get());
  const std::unique_ptr<std::string> taken = std::move(result).value();
  EXPECT_EQ(*taken, "pages");
  Result<std::unique_ptr<std::string>> moved(Error{"open", ENOENT});
  const auto again = std::move(moved);
  EXPECT_FALSE(again);
}

TEST(Result, ThrowsWhatDescribes) {
  for (int how = 0; how < 3; ++how) {
    try {
      Result<int> result = refused();
      const Result<int>& constant = result;
      if (how == 0) static_cast<void>(result.value());
      if (how == 1) static_cast<void>(constant.value());
      if (how == 2) static_cast<void>(refused().value());
      FAIL() << "nothing thrown";
    } catch (const SystemError& thrown) {
      EXPECT_EQ(thrown.code(), std::errc::not_enough_memory);
      EXPECT_EQ(thrown.error().number, ENOMEM);
      EXPECT_EQ(thrown.what(), describe(thrown.error()));
    }
  }
  // Those who know only the standard library.
  try {
    static_cast<void>(refused().value());
    FAIL() << "nothing thrown";
  } catch (const std::system_error& thrown) {
    EXPECT_EQ(thrown.code().value(), ENOMEM);
    EXPECT_THAT(thrown.what(), HasSubstr("mprotect"));
  }
}

TEST(Result, ExceptionsMayBeCopied) {
  const SystemError first(refused().error());
  const SystemError second(first);
  EXPECT_STREQ(second.what(), first.what());
  SystemError third(Error{"open", ENOENT});
  third = second;
  EXPECT_STREQ(third.what(), first.what());
}

TEST(Describe, TellsEverythingOnOneLine) {
  const std::string line = describe(refused().error());
  for (const char* const word :
       {"mprotect", "[0x10000, ", "3 pages", "ENOMEM", "Cannot allocate memory", "try less"})
    EXPECT_THAT(line, HasSubstr(word));
  EXPECT_EQ(line.find('\n'), std::string::npos);
}

TEST(Describe, LeavesOutWhatIsNotThere) {
  EXPECT_EQ(describe(Error{"open", ENOENT}), "open: ENOENT (No such file or directory)");
  EXPECT_EQ(describe(Error{"open", ENOENT, {}, nullptr}),
            "open: ENOENT (No such file or directory)");
  EXPECT_EQ(describe(Error{"read", EIO, {}, "", 4096}),
            "read at byte 4096: EIO (Input/output error)");
  EXPECT_EQ(describe(Error{"UFFDIO_COPY", EAGAIN, {}, "try again"}),
            "UFFDIO_COPY: EAGAIN (Resource temporarily unavailable). try again");
}

TEST(Describe, SurvivesNumbersThatAreNotErrnos) {
  EXPECT_EQ(describe(Error{"odd", 4095}), "odd: 4095");  // the kernel's largest
  EXPECT_EQ(describe(Error{"odd", 99999}), "odd: 99999");
  EXPECT_THAT(describe(Error{"odd", -5}), HasSubstr("-5"));
}

}  // namespace
}  // namespace pagetrap
