// Programs that know nothing of us, under `pagetrap run --memory` and under their rivals.
#pragma once

#include <functional>
#include <memory>

#include "harness/program.hpp"
#include "harness/question.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

/// A program that holds its data, and works on them when it is asked to.
class Subject {
 public:
  virtual ~Subject() = default;
  /// The cost of an operation, from a batch. False: the program is gone.
  virtual bool measure(double& cost) = 0;
  [[nodiscard]] virtual Program& program() = 0;
};

/// Starts the program, its words after `prefix`, and fills it. `before`: see Program. Null: it has
/// ended meanwhile.
using Start = std::function<std::unique_ptr<Subject>(const Words& prefix,
                                                     const std::function<bool()>& before)>;

/// Skips the question if `pagetrap run --memory` cannot work here.
void require_run(Report& report);

/// In `share` of its memory by swap to zram, and by `pagetrap run` in as many bytes as that takes
/// in all. The kernel counts them, for both sides.
void against_zram(const Effort& effort, Report& report, double share, const Start& start);

/// With `share` of its pages in memory, and by itself.
void against_unlimited(const Effort& effort, Report& report, double share, const Start& start);

}  // namespace pagetrap::bench
