// Without the room checkpoint.
#include "../doctor/examination.hpp"
#include "../run/launch.hpp"

namespace pagetrap::tool {
namespace {
int absent(const char* command) {
  return launch::unable(std::string(command) + ": this pagetrap was built without checkpoints",
                        "They need LZ4, zstd and xxHash: apt-get install liblz4-dev libzstd-dev "
                        "libxxhash-dev, and build again.");
}
}  // namespace

int run_checkpoint(const RunRequest&) { return absent("run --checkpoint"); }
int checkpoint_process(const CheckpointRequest&) { return absent("checkpoint"); }
int restart(const RestartRequest&) { return absent("restart"); }
ProcessFinding examine_processes() {
  ProcessFinding finding;
  finding.problem = "this pagetrap was built without checkpoints";
  return finding;
}

}  // namespace pagetrap::tool
