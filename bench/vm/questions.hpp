// The questions of the ground floor. Each family of them has a file of its own.
#pragma once

#include <vector>

#include "harness/question.hpp"

namespace pagetrap::bench {

using Questions = std::vector<Question>;

/// All of them, in the order of the table.
Questions vm_questions();

void add_trap_roundtrip(Questions& questions);
void add_overhead(Questions& questions);
void add_dispatch_growth(Questions& questions);
void add_threads(Questions& questions);
void add_fault_random_split(Questions& questions);
void add_freeze(Questions& questions);
void add_lift_growth(Questions& questions);
void add_dirty_scan(Questions& questions);
void add_dirty_write(Questions& questions);
void add_dirty_ring(Questions& questions);
void add_map_twice(Questions& questions);
void add_guard_page(Questions& questions);
void add_break_even(Questions& questions);

}  // namespace pagetrap::bench
