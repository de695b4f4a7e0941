// What the tests of stores share.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include <pagetrap/store/store.hpp>

namespace pagetrap::store {

/// An empty folder, removed at the end.
class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "pagetrap-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

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
