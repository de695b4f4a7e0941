// The questions of the pager.
#pragma once

#include <vector>

#include "harness/question.hpp"

namespace pagetrap::bench {

using Questions = std::vector<Question>;

/// All of them, in the order of the table.
Questions pager_questions();

void add_table(Questions& questions);
void add_table_break_even(Questions& questions);
void add_file_random(Questions& questions);

}  // namespace pagetrap::bench
