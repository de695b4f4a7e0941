// The questions about compressed memory.
#pragma once

#include <vector>

#include "harness/question.hpp"

namespace pagetrap::bench {

using Questions = std::vector<Question>;

/// All of them, in the order of the table.
Questions compress_questions();

void add_bytes_text(Questions& questions);
void add_zram(Questions& questions);
void add_sqlite(Questions& questions);
void add_redis(Questions& questions);
void add_python(Questions& questions);
void add_plain(Questions& questions);

}  // namespace pagetrap::bench
