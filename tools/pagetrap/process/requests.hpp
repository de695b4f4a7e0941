// What others ask a supervisor for, through unix sockets whose names need no file.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace pagetrap::tool::process {

struct Request {
  enum class Kind { none, next, full, self, hooks };
  Kind kind = Kind::none;
  int requester = -1;         // next, full: to be answered and closed
  std::uint64_t address = 0;  // self, hooks: of a word in the process
  int event = -1;             // hooks: an eventfd, to be closed
};

/// Of the process's id, for `pagetrap checkpoint`.
std::string socket_of(pid_t process);
/// For the process itself, which may be restarted under another id.
std::string new_socket();
/// -1: it is in use, or there are no sockets.
int listen_at(const std::string& name);
/// Reads one; answers what is no request for a checkpoint itself.
Request take_request(int listener);

/// Asks whoever supervises `process` for a checkpoint. Returns the answer's lines; an empty text:
/// nobody does.
std::string ask_for_checkpoint(pid_t process, bool full);

}  // namespace pagetrap::tool::process
