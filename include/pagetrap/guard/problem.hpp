// What guard heaps find, and where they say so.
#pragma once

#include <signal.h>

#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

enum class Problem : std::uint8_t {
  overflow,        // an access after an object
  underflow,       // an access before an object
  use_after_free,  // an access to an object that was freed
  wild_access,     // an access to guarded addresses, near no object
  overwritten,     // found at free: bytes beside the object were changed meanwhile
  double_free,     //
  invalid_free,    // of an address that is no object's start
  wrong_function,  // freed by another family of functions than allocated it
  wrong_size,      // sized delete with another size
  stack_overflow,  // stacks.hpp
};

struct ReportOptions {
  const char* text_file = nullptr;   // null: standard error. Borrowed, as all of these
  const char* json_file = nullptr;   // also as JSON, one object a line, schema pagetrap-guard/1
  bool go_on = false;                // after a report, where that can be done
  unsigned most_reports = 20;        // going on ends with so many
  int exit_code = 66;                // of the process after the report
  bool dump_core = false;            // end by abort() instead
  const char* symboliser = nullptr;  // a program that reads "MODULE OFFSET" lines and answers each
                                     // with a line; null: modules and offsets only
  const char* debugger = nullptr;    // a shell command, run before the process ends; %p is its id
};

/// For all heaps of the process. Call before threads allocate.
PAGETRAP_API void report_to(const ReportOptions& options) noexcept;

/// The SIGSEGV and SIGBUS handler of this room, in front of whatever is there; what is no guard's
/// goes to that. Done by the first heap. Idempotent.
PAGETRAP_API Result<Done> install_fault_handler() noexcept;

/// For a shim in front of sigaction(2): what the program is to believe is installed for SIGSEGV or
/// SIGBUS, and where faults go that are none of ours. Null: not asked, not changed.
PAGETRAP_API void previous_action(int signal, const struct sigaction* wanted,
                                  struct sigaction* old) noexcept;

/// Reports since the process began.
PAGETRAP_API unsigned reports() noexcept;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
