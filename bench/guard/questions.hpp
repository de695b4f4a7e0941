// The questions about guards. Each family of them has a file of its own.
#pragma once

#include <vector>

#include "harness/question.hpp"

namespace pagetrap::bench {

using Questions = std::vector<Question>;

/// All of them, in the order of the table.
Questions guard_questions();

void add_bump(Questions& questions);
void add_bump_break_even(Questions& questions);
void add_shield(Questions& questions);
void add_guarded_programs(Questions& questions);
void add_page_pair(Questions& questions);
void add_guarded_memory(Questions& questions);
void add_stack_capture(Questions& questions);
void add_live_objects(Questions& questions);

}  // namespace pagetrap::bench
