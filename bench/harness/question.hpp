// A question that a benchmark answers: one row, or a few, of the table.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pagetrap::bench {

class Report;

/// How much work a measurement may do.
struct Effort {
  bool quick = false;
  double seconds = 0;  // for the timed pairs of one question
  int min_pairs = 0;
  int max_pairs = 0;
};

/// What the measuring process asks of the scheduler.
enum class Scheduling {
  real_time,   // SCHED_FIFO where allowed: for questions whose threads never compete for a CPU
  fair_group,  // a scheduling group of its own: more threads than CPUs, FIFO would starve some
};

struct Question {
  std::string id;     // stable, as in the tracker: "vm.trap_roundtrip"
  std::string asks;   // one sentence, printed by --list
  std::string ours;   // what is measured on our side; a measurement may refine it
  std::string rival;  // and on the other
  std::string unit;   // of the medians; always a cost, so that a ratio below 1 is better for us
  double target = 0;  // the ratio to reach; 0: none
  void (*measure)(const Effort&, Report&) = nullptr;
  Scheduling scheduling = Scheduling::real_time;
  std::string bound{};  // if the target may be missed: by what it is bounded, printed then
};

/// A room of the house that has benchmarks.
struct Module {
  std::string_view name;
  std::vector<Question> (*questions)();
};

std::span<const Module> modules();

}  // namespace pagetrap::bench
