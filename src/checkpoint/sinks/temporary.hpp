// Temporary files beside the file that they will become: made, recognised, and removed when the
// process that wrote them is dead.
#pragma once

#include <string>

#include <pagetrap/core/result.hpp>

#include "sys/fd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// A locked, empty file. As long as a process has it open, no other removes it.
struct Temporary {
  sys::Descriptor file;
  std::string name;  // in its directory
};

/// `.NAME.PID-RANDOM.tmp` in `directory`, mode 0600.
Result<Temporary> make_temporary(int directory, const std::string& name);

/// Removes all such files in `directory` that no living process has open. What cannot be removed
/// stays: this is a courtesy.
void remove_dead_temporaries(int directory) noexcept;

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
