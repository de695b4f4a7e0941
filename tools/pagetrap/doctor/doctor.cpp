// pagetrap doctor: what this kernel and this user may do.
#include <cstdio>
#include <string>
#include <vector>

#include <pagetrap/vm/vm.hpp>

#include "../commands.hpp"
#include "../text/progress.hpp"
#include "examination.hpp"

namespace pagetrap::tool {

std::vector<std::string> Examination::contradictions() const {
  std::vector<std::string> found;
  for (const TrapByBackend& trap : traps) {
    if (!trap.measured.problem.view().empty()) {
      found.push_back(std::string("backend ") + name(trap.backend) +
                      " counts as available, but: " + std::string(trap.measured.problem.view()));
    }
  }
  for (const CallTrial& call : calls) {
    if (!call.as_predicted()) {
      found.push_back(call.subject + ", " + call.access + ": predicted " +
                      call_outcome_name(call.predicted) + ", seen " +
                      call_outcome_name(call.observed) +
                      (call.problem.empty() ? "" : " (" + call.problem + ")"));
    }
  }
  return found;
}

int doctor(const DoctorOptions& options) {
  Examination examination;
  {
    Progress progress;
    progress.show("examining the kernel ...");
    examination.machine = examine_machine();
    examination.user = examine_user();
    progress.show("measuring the primitives ...");
    examination.primitives = examine_primitives();
    progress.show("measuring each backend ...");
    examination.traps = examine_traps();
    progress.show("trying system calls on protected memory ...");
    examination.calls = examine_calls();
    progress.show("saving and restarting a process ...");
    examination.processes = examine_processes();
  }
  if (options.json) {
    std::printf("%s\n", examination_json(examination).c_str());
  } else {
    print_examination(examination);
  }
  return examination.contradictions().empty() ? kOk : kFailed;
}

}  // namespace pagetrap::tool
