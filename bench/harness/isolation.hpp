// Runs a question in a process of its own.
#pragma once

#include "harness/question.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

/// Fork, give the child its scheduling, let it measure, and collect its answer. A crash, a hang
/// (killed after `limit_seconds`) or a failed check ends in Answer::failure, never in the caller.
Answer measure_in_child(const Question& question, const Effort& effort, double limit_seconds);

}  // namespace pagetrap::bench
