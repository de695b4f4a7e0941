// The questions about stores. Each family of them has a file of its own.
#pragma once

#include <vector>

#include "harness/question.hpp"

namespace pagetrap::bench {

using Questions = std::vector<Question>;

/// All of them, in the order of the table.
Questions store_questions();

void add_store_transactions(Questions& questions);
void add_store_costs(Questions& questions);
void add_store_reads(Questions& questions);
void add_store_opening(Questions& questions);
void add_store_snapshots(Questions& questions);
void add_store_cache_lines(Questions& questions);
void add_store_detection(Questions& questions);
void add_store_relocation(Questions& questions);

}  // namespace pagetrap::bench
