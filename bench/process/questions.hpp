// The questions about checkpoints of whole processes. Each family of them has a file of its own.
#pragma once

#include <vector>

#include "harness/question.hpp"

namespace pagetrap::bench {

using Questions = std::vector<Question>;

/// All of them, in the order of the table.
Questions process_questions();

void add_process_pauses(Questions& questions);
void add_process_restarts(Questions& questions);
void add_process_overhead(Questions& questions);

}  // namespace pagetrap::bench
