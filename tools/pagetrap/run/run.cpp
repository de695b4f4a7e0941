// pagetrap run: an unmodified program with a power. The shim is loaded in front of it, and told
// what to do by environment variables; then this process becomes the program. But for checkpoints,
// where it is the program's parent and nothing is loaded.
#include "launch.hpp"

namespace pagetrap::tool {

int run(const RunRequest& request) {
  const bool memory = !request.memory.empty();
  const bool guard = !request.guard.strength.empty();
  const bool checkpoint = !request.checkpoint.directory.empty();
  if (!memory && !guard && !checkpoint)
    return launch::usage(
        "run: which power? There are --memory BYTES[=total], --guard[=STRENGTH] and --checkpoint "
        "DIR");
  if (memory && guard)
    return launch::usage("run: --memory and --guard each bring a malloc: one of them at a time");
  if (checkpoint && (memory || guard))
    return launch::usage(
        "run: --memory and --guard serve faults of the program, which an image cannot have: "
        "without "
        "--checkpoint");
  if (request.program.empty())
    return launch::usage(std::string("run: the program is missing: run ") +
                         (memory  ? "--memory 1G"
                          : guard ? "--guard"
                                  : "--checkpoint DIR") +
                         " -- PROGRAM ...");
  if (checkpoint) return run_checkpoint(request);
  return memory ? run_memory(request) : run_guard(request);
}

}  // namespace pagetrap::tool
