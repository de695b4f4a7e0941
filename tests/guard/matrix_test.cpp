// The generated matrix: every cell is caught where the design says, and nowhere else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "guarded.hpp"

namespace pagetrap::guard::test {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kCanary = 128;

enum class Caught { at_access, at_free, never };

struct Cell {
  bool over;
  bool write;
  std::size_t distance;
  std::size_t size;
  std::size_t address;
};

std::vector<Cell> parse(const std::string& output) {
  std::vector<Cell> cells;
  std::istringstream lines(output);
  std::string word;
  std::string side;
  std::string access;
  Cell cell{};
  while (lines >> word >> side >> access >> cell.distance >> cell.size >> cell.address) {
    cell.over = side == "over";
    cell.write = access == "write";
    cells.push_back(cell);
  }
  return cells;
}

std::size_t alignment(const std::string& function, std::size_t size) {
  if (function == "memalign") return 16;
  const std::size_t lowest = size & (~size + 1);
  return lowest < 2 ? 2 : lowest > 16 ? 16 : lowest;
}

// docs/design/guard.md, "What is caught where".
Caught expected(const Cell& cell, bool right, std::size_t aligned) {
  const std::size_t whole = (cell.size + kPage - 1) / kPage * kPage;
  const std::size_t after = right ? (aligned - cell.size % aligned) % aligned : whole - cell.size;
  const std::size_t slack = cell.over ? after : whole - cell.size - after;
  if (cell.distance > slack) return Caught::at_access;
  return cell.write && cell.distance <= kCanary ? Caught::at_free : Caught::never;
}

class Matrix : public testing::TestWithParam<std::tuple<const char*, const char*, const char*>> {};

TEST_P(Matrix, EveryCellIsCaughtWhereTheDesignSays) {
  const auto& [function, side, mechanism] = GetParam();
  const bool cold = mechanism == std::string("cold");
  const Guarded guarded =
      run_guarded({cold ? "=page+cold" : "=page", "--guard-hot", "256K", "--guard-side", side,
                   "--guard-mechanism", cold ? "userfaultfd" : mechanism, "--guard-continue",
                   "--guard-reports", "100000", "--guard-no-symbols"},
                  {cells(), "matrix", function});
  ASSERT_EQ(guarded.ran.status, 0) << guarded.ran.errors.substr(0, 2000);
  const auto all = parse(guarded.ran.output);
  ASSERT_EQ(all.size(), 10U * 68 * 2 * 2);
  std::size_t next = 0;
  std::size_t at_access = 0;
  std::size_t far_missed = 0;
  for (const Cell& cell : all) {
    const std::string what = std::string(cell.over ? "over " : "under ") +
                             (cell.write ? "write " : "read ") + std::to_string(cell.distance) +
                             " of " + std::to_string(cell.size);
    const Caught caught =
        expected(cell, std::string(side) == "right", alignment(function, cell.size));
    if (caught == Caught::never) continue;  // a report of it would be taken for the next cell's
    // 1 MiB away there may be another block, which lives: then there is nothing to see.
    if (cell.distance > kPage &&
        (next == guarded.reports.size() || guarded.reports[next]["address"] != cell.address)) {
      ++far_missed;
      continue;
    }
    ASSERT_LT(next, guarded.reports.size()) << what << " was not caught";
    const auto& report = guarded.reports[next++];
    ASSERT_EQ(report["address"], cell.address) << what << "\n" << report;
    if (caught == Caught::at_free) {
      ASSERT_EQ(report["problem"], "overwritten") << what;
    } else {
      ++at_access;
      ASSERT_EQ(report["access"], cell.write ? "write" : "read") << what;
      ASSERT_EQ(report["width"], 1) << what;
      if (cell.distance > kPage) continue;  // another block may be nearer
      ASSERT_EQ(report["problem"], cell.over ? "overflow" : "underflow") << what << report;
      ASSERT_EQ(report["block"]["size"], cell.size) << what;
    }
  }
  EXPECT_EQ(next, guarded.reports.size()) << guarded.reports.back();
  EXPECT_LE(far_missed, 16U);  // of 272
  EXPECT_GT(at_access, all.size() / 3);
}

INSTANTIATE_TEST_SUITE_P(Guard, Matrix,
                         testing::Combine(testing::Values("malloc", "calloc", "realloc", "memalign",
                                                          "new", "new[]"),
                                          testing::Values("right", "left"),
                                          testing::Values("userfaultfd", "cold", "markers")),
                         [](const auto& one) {
                           std::string name = std::string(std::get<0>(one.param)) + "_" +
                                              std::get<1>(one.param) + "_" + std::get<2>(one.param);
                           for (char& c : name)
                             if (c == '[' || c == ']') c = 'A';
                           return name;
                         });

}  // namespace
}  // namespace pagetrap::guard::test
