// The questions about checkpoints. Each family of them has a file of its own.
#pragma once

#include <vector>

#include "harness/question.hpp"

namespace pagetrap::bench {

using Questions = std::vector<Question>;

/// All of them, in the order of the table.
Questions checkpoint_questions();

void add_cut(Questions& questions);
void add_longest_gap(Questions& questions);
void add_work_lost(Questions& questions);
void add_extra_memory(Questions& questions);
void add_increments(Questions& questions);
void add_restore(Questions& questions);
void add_save_file(Questions& questions);
void add_compress(Questions& questions);
void add_hash_table(Questions& questions);
void add_cow_twin(Questions& questions);

}  // namespace pagetrap::bench
