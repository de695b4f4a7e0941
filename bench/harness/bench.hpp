// The benchmarks' entrance: what `pagetrap bench` calls.
//
// WHY not Google Benchmark: it repeats one function until its time is stable, one side after the
// other. We want a ratio of two sides measured in turns in one process (the host's speed drifts by
// half within an hour), each question in a process of its own (a fault handler is process-wide
// state), and a way to say "not measurable here, because". docs/design/bench.md tells the rest.
#pragma once

#include <string>
#include <vector>

namespace pagetrap::bench {

struct BenchOptions {
  std::vector<std::string> modules;  // "vm", ...; empty: all
  bool quick = false;                // under a minute per module on two CPUs
  std::string json_path;             // empty: none; "-": standard output, and no table
  std::string filter;                // only ids that begin so
  bool list = false;                 // print ids and what they ask, measure nothing
};

/// Measure and print. Returns an exit status: 0 measured (also where a target is missed, or a
/// question does not apply here), 1 a measurement went wrong (a crash, a failed check), 2 the
/// options make no sense.
int run(const BenchOptions& options);

}  // namespace pagetrap::bench
