// What doctor finds out, before anybody decides how to show it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <pagetrap/vm/backend.hpp>

#include "../measure/measured.hpp"

namespace pagetrap::tool {

/// A setting of the system, or a limit, as text.
struct Setting {
  std::string name;
  std::string value;
};

struct MachineFacts {
  std::string kernel;
  std::string architecture;
  std::string processor;
  unsigned cpus = 0;
  bool hypervisor = false;
  std::uint64_t memory_bytes = 0;
  std::uint64_t page_bytes = 0;
  std::uint64_t max_map_count = 0;
  std::vector<Setting> settings;
};

struct UserFacts {
  unsigned uid = 0;
  std::string name;
  std::vector<std::string> capabilities;  // effective, those that matter to pagetrap
  std::vector<Setting> limits;
};

/// What a primitive is served by here.
struct PrimitiveFinding {
  std::string id;         // TRAP, PROT1, ..., as in the paper; ours in lower case
  std::string mechanism;  // the kernel's means
  std::string why;        // why this one
  bool served = false;
  std::string problem;  // why it is not served, or how it failed
  std::vector<Figure> costs;
};

struct TrapByBackend {
  BackendId backend = BackendId::null;
  Measured measured;
};

/// What happens when a system call touches protected memory.
enum class CallOutcome {
  served,    // the fault reached the handler, the call went on
  efault,    // the call failed with EFAULT; the handler was not asked
  bypassed,  // the call went on and nobody was told
  failed,    // something else: see the problem
};
const char* call_outcome_name(CallOutcome outcome) noexcept;

struct CallTrial {
  std::string subject;  // a backend's name, or DIRTY's form
  std::string access;   // "read(2) into a read-only page"
  CallOutcome predicted = CallOutcome::failed;
  CallOutcome observed = CallOutcome::failed;
  std::string problem;
  [[nodiscard]] bool as_predicted() const {
    return predicted == observed && observed != CallOutcome::failed;
  }
};

/// A process that was saved as a whole, and restarted.
struct ProcessFinding {
  bool saved = false;
  std::string problem;  // why not
  double frozen_us = 0;
  bool tracked = false;         // later images can be increments
  bool own_namespace = false;   // its id could only be had in one
  std::string restart_problem;  // empty: it was restarted
  std::string lazy_problem;
};

struct Examination {
  MachineFacts machine;
  UserFacts user;
  std::vector<PrimitiveFinding> primitives;
  std::vector<TrapByBackend> traps;
  std::vector<CallTrial> calls;
  ProcessFinding processes;
  /// Things that should have worked by what the features and capabilities say, and did not.
  [[nodiscard]] std::vector<std::string> contradictions() const;
};

MachineFacts examine_machine();
UserFacts examine_user();
/// Takes about two seconds: every primitive is measured in a child of its own.
std::vector<PrimitiveFinding> examine_primitives();
std::vector<TrapByBackend> examine_traps();
std::vector<CallTrial> examine_calls();
/// Defined in process/ or, without the room checkpoint, in process/absent.cpp; CMake chooses.
ProcessFinding examine_processes();

void print_examination(const Examination& examination);
std::string examination_json(const Examination& examination);

}  // namespace pagetrap::tool
