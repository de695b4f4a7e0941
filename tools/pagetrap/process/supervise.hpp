// The parent of a process that is saved: hands signals on, takes requests, saves every so often.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include <pagetrap/checkpoint/process.hpp>

namespace pagetrap::tool::process {

struct Supervision {
  pid_t process = 0;
  std::optional<checkpoint::ProcessSaverOptions> saving;  // none: it is only waited for
  int listener = -1;   // where the process asks for checkpoints; closed in the end
  std::string report;  // a JSON line for each checkpoint is appended here; - is standard error
  std::function<int()> wait;        // for its end, as waitpid(2) has it; called once it has ended
  std::function<void()> meanwhile;  // before the first checkpoint; may be empty
};

/// Until the process ends. Returns its exit code; ends as it did, if that was by a signal.
int supervise(const Supervision& supervision);

/// Signals that are for the process, and are handed on by supervise(): blocked from before it is
/// begun, so that none is lost. A child undoes that with unblock_signals().
void block_signals();
void unblock_signals();

/// A time as "30s", "10m", "1h", "500ms". Empty: it makes no sense.
std::optional<std::chrono::milliseconds> parse_time(const std::string& text);

}  // namespace pagetrap::tool::process
