// pagetrap run: an unmodified program with a power. The shim is loaded in front of it, and told
// what to do by environment variables; then this process becomes the program.
#include "launch.hpp"

namespace pagetrap::tool {

int run(const RunRequest& request) {
  const bool memory = !request.memory.empty();
  const bool guard = !request.guard.strength.empty();
  if (!memory && !guard)
    return launch::usage(
        "run: which power? There are --memory BYTES[=total] and --guard[=STRENGTH]");
  if (memory && guard)
    return launch::usage("run: --memory and --guard each bring a malloc: one of them at a time");
  if (request.program.empty())
    return launch::usage(std::string("run: the program is missing: run ") +
                         (memory ? "--memory 1G" : "--guard") + " -- PROGRAM ...");
  return memory ? run_memory(request) : run_guard(request);
}

}  // namespace pagetrap::tool
