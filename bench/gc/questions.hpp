// The questions about the collector. Each family of them has a file of its own.
#pragma once

#include <vector>

#include "harness/question.hpp"

namespace pagetrap::bench {

using Questions = std::vector<Question>;

/// All of them, in the order of the table.
Questions gc_questions();

void add_trees(Questions& questions);
void add_collected_map(Questions& questions);
void add_flips(Questions& questions);
void add_barriers(Questions& questions);

}  // namespace pagetrap::bench
