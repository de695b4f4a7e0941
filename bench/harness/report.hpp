// What a measurement says: written by the measuring process, read by the one that started it.
//
// The two are joined by a pipe that carries lines of tab-separated fields. Text, because a process
// that dies in the middle leaves a prefix that can still be understood, and shown.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "harness/statistics.hpp"

namespace pagetrap::bench {

/// At how many accesses per fault a fault costs as much as the instructions it saves.
struct BreakEven {
  std::string application;
  std::string fault_mechanism;
  double fault_ns = 0;
  std::string instruction;
  double instruction_ns = 0;      // not above the noise: 0
  double accesses_per_fault = 0;  // 0: the instruction is free, the fault never pays
  double low = 0;                 // by the 10th and 90th percentiles of both costs
  double high = 0;                // 0: without bound
};

struct Parameter {
  std::string name;
  std::string value;
  bool is_number = false;
};

/// Everything that came back.
struct Answer {
  std::vector<Pair> pairs;
  std::vector<Parameter> parameters;
  std::vector<BreakEven> break_even;
  std::string ours;  // if the measurement found a better name
  std::string rival;
  std::string skipped;     // why it does not apply here, if it does not
  std::string failure;     // a check that did not hold, or how the process died
  std::string scheduling;  // what the process got
  bool finished = false;
};

/// The measuring side. Every call writes one line.
class Report {
 public:
  explicit Report(int pipe) : pipe_(pipe) {}

  void pair(double ours, double rival);
  void parameter(std::string_view name, double value);
  void parameter(std::string_view name, std::string_view value);
  void break_even(const BreakEven& row);
  void ours_is(std::string_view name);
  void rival_is(std::string_view name);
  void scheduling(std::string_view how);

  /// Ends the process. Does not return, so that what cannot be measured need not unwind.
  [[noreturn]] void skip(std::string_view reason);
  [[noreturn]] void fail(std::string_view what);
  [[noreturn]] void finish();

  /// fail(what) unless `holds`: both sides of every pair are verified.
  void check(bool holds, std::string_view what) {
    if (!holds) fail(what);
  }

  [[nodiscard]] int pairs() const noexcept { return pairs_; }

 private:
  void line(std::string_view kind, const std::vector<std::string>& fields);
  int pipe_;
  int pairs_ = 0;
};

/// The reading side: `text` is all that came through the pipe.
Answer parse_answer(std::string_view text);

}  // namespace pagetrap::bench
