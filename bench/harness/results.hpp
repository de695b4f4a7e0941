// Everything a run found out, and the two ways to show it.
#pragma once

#include <string>
#include <vector>

#include "harness/machine.hpp"
#include "harness/question.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

struct Row {
  Question question;  // `ours` and `rival` as the measurement named them
  Summary summary;
  std::vector<Parameter> parameters;
  std::string scheduling;

  [[nodiscard]] bool met() const {
    return question.target <= 0 || summary.ratio <= question.target;
  }
};

/// A question without a row, and why.
struct Missing {
  std::string id;
  std::string reason;
};

struct Results {
  Machine machine;
  bool quick = false;
  std::vector<Row> rows;
  std::vector<BreakEven> break_even;
  std::vector<Missing> skipped;  // does not apply here
  std::vector<Missing> failed;   // went wrong
};

/// The document that `--json` writes; DESIGN, "Benchmark rows".
std::string to_json(const Results& results);

/// For people.
std::string describe(const Machine& machine);
std::string table_header();
std::string table_line(const Row& row);
std::string break_even_table(const std::vector<BreakEven>& rows);
std::string remarks(const Results& results);  // targets missed, what was skipped, what failed

/// "4.31 us": three digits and the unit that suits; `unit` is "ns" or anything else, shown as it
/// is.
std::string quantity(double value, const std::string& unit);

}  // namespace pagetrap::bench
