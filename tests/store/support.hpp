// What the tests of stores share.
#pragma once

#include <memory>
#include <string>

#include <gtest/gtest.h>

#include <pagetrap/store/store.hpp>

#include "support/folder.hpp"

namespace pagetrap::store {

/// Small: a log of 1 MiB and 256 MiB of addresses, so that laps and growth come soon.
inline StoreOptions small_store(Detect detect = Detect::best) {
  StoreOptions options;
  options.detect = detect;
  options.log_bytes = 1_MiB;
  options.reserve_bytes = 256_MiB;
  return options;
}

inline constexpr Detect kDetectors[] = {Detect::traps, Detect::ring, Detect::scan};
inline std::string detect_name(const ::testing::TestParamInfo<Detect>& info) {
  return name(info.param);
}

/// Skips the test where this way to find writes is not to be had.
#define OPEN_OR_SKIP(variable, path, options)                                        \
  auto variable##_result = ::pagetrap::store::Store::open(path, options);            \
  if (!variable##_result && variable##_result.error().number == ENOTSUP)             \
    GTEST_SKIP() << ::pagetrap::describe(variable##_result.error());                 \
  ASSERT_TRUE(variable##_result) << ::pagetrap::describe(variable##_result.error()); \
  auto& variable = *variable##_result

#define EXPECT_OK(expression)                                                       \
  do {                                                                              \
    const auto expected_ok = (expression);                                          \
    EXPECT_TRUE(expected_ok) << (expected_ok ? "" : describe(expected_ok.error())); \
  } while (false)

}  // namespace pagetrap::store
