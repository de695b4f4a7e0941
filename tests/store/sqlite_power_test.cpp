// SQLite under the power failures of the store's campaign: they must do it no harm when it flushes,
// and must do it harm when it does not. tests/store/run makes more.
#include <algorithm>

#include <gtest/gtest.h>

#include "store/campaign/sqlite/files.hpp"
#include "store/campaign/sqlite/power.hpp"
#include "store/campaign/workload.hpp"

namespace campaign {
namespace {

using pagetrap::store::Bytes;
using pagetrap::store::PowerFailure;
using pagetrap::store::RandomWords;
using pagetrap::store::Tearing;

constexpr Tearing kTearings[] = {Tearing::none, Tearing::sectors, Tearing::words, Tearing::garbage};

SqlitePowerResult fail_power(Tearing tearing, Journal journal, Synchronous synchronous) {
  SqlitePowerOptions options;
  options.states = 100;
  options.seed = 11 + static_cast<std::uint64_t>(tearing);
  options.tearing = tearing;
  options.journal = journal;
  options.synchronous = synchronous;
  return fail_power_of_sqlite(options);
}

class Sqlite : public ::testing::TestWithParam<Journal> {};

TEST_P(Sqlite, KeepsWhatItAcknowledgedWhenItFlushes) {
  std::uint64_t ahead = 0;
  for (const Tearing tearing : kTearings) {
    const SqlitePowerResult result = fail_power(tearing, GetParam(), Synchronous::full);
    EXPECT_EQ(result.lost, 0U) << result.first_wrong;
    EXPECT_EQ(result.corrupt, 0U) << result.first_wrong;
    EXPECT_EQ(result.states, 100U);
    ahead += result.ahead;
  }
  // Some are between a commit and its acknowledgement.
  EXPECT_GT(ahead, 0U);
}

TEST_P(Sqlite, LosesOrCorruptsWhenItDoesNot) {
  for (const Tearing tearing : kTearings) {
    const SqlitePowerResult result = fail_power(tearing, GetParam(), Synchronous::off);
    EXPECT_GT(result.lost + result.corrupt, 0U) << "in " << result.states << " states";
    // Where every write arrived, all is well: the checker does not refuse everything.
    EXPECT_LT(result.lost + result.corrupt, result.states);
  }
}

class Files : public ::testing::Test {
 protected:
  static Bytes letters(std::size_t count) { return Bytes(count, std::byte{'x'}); }
  Bytes contents(File file) {
    Bytes found(static_cast<std::size_t>(files_.length(file)));
    EXPECT_TRUE(files_.read(file, found, 0));
    return found;
  }
  /// What is there when power fails now, and of what was not flushed nothing arrived.
  RecordedFiles after_failure() {
    Random random(1);
    const PowerFailure failure(files_.record().operations, Medium().contents);
    return RecordedFiles(files_.medium(
        failure.at(files_.record().operations.size(), 0, RandomWords(random), Tearing::sectors)));
  }
  RecordedFiles files_{Medium()};
};

TEST_F(Files, AFlushIsOfOneFile) {
  for (const File file : {File::database, File::log}) {
    files_.create(file);
    ASSERT_TRUE(files_.write(file, letters(1000), 100));
  }
  files_.flush(File::log);
  // The last operation of all may not have arrived.
  files_.create(File::journal);
  RecordedFiles after = after_failure();
  EXPECT_TRUE(after.exists(File::journal));
  Bytes found(1100);
  EXPECT_TRUE(after.read(File::log, found, 0));
  EXPECT_EQ(found, contents(File::log));
  EXPECT_TRUE(after.read(File::database, found, 0));
  EXPECT_EQ(found, Bytes(1100));
}

TEST_F(Files, WhatWasCutOffReadsAsZeroes) {
  files_.create(File::journal);
  ASSERT_TRUE(files_.write(File::journal, letters(3000), 0));
  files_.flush(File::journal);
  files_.truncate(File::journal, 700);
  Bytes found(3000);
  EXPECT_FALSE(files_.read(File::journal, found, 0));
  ASSERT_TRUE(files_.write(File::journal, letters(1), 2999));
  Bytes expected(3000);
  std::fill_n(expected.begin(), 700, std::byte{'x'});
  expected.back() = std::byte{'x'};
  EXPECT_EQ(contents(File::journal), expected);
  expected.back() = std::byte{0};
  RecordedFiles after = after_failure();
  EXPECT_TRUE(after.read(File::journal, found, 0));
  EXPECT_EQ(found, expected);
  files_.remove(File::journal);
  EXPECT_FALSE(after_failure().exists(File::journal));
}

// What its manual says of this mode.
TEST(SqliteNormal, LosesOnlyTheLastOnes) {
  for (const Tearing tearing : kTearings) {
    const SqlitePowerResult result = fail_power(tearing, Journal::wal, Synchronous::normal);
    EXPECT_GT(result.lost, 0U);
    EXPECT_EQ(result.corrupt, 0U) << result.first_wrong;
  }
}

std::string journal_name(const ::testing::TestParamInfo<Journal>& info) {
  return info.param == Journal::wal ? "wal" : "rollback";
}

INSTANTIATE_TEST_SUITE_P(Journals, Sqlite, ::testing::Values(Journal::wal, Journal::rollback),
                         journal_name);

}  // namespace
}  // namespace campaign
