// A program that was run: how it ended, what it said, and what it cost.
#pragma once

#include <string>
#include <vector>

namespace pagetrap::tool {

using Words = std::vector<std::string>;

struct Ran {
  int status = 0;      // exit status; 128 and the signal that killed it
  std::string output;  // standard output and standard error, as they came
  double cpu_ns = 0;   // with the processes that it waited for
};

/// Throws std::system_error: no process. It is killed after a minute.
Ran run_program(const Words& words);

}  // namespace pagetrap::tool
