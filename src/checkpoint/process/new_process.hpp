// NewProcess: a child with the id that another process had, traced from its first instruction on.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/rebirth.hpp"
#include "sys/fd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Whether the ids of these threads, the process's first, can only be had in a namespace: one is in
/// use, or this user may not choose.
bool needs_namespace(const std::vector<Thread>& threads);

class NewProcess {
 public:
  pid_t id = 0;      // as we see it
  pid_t keeper = 0;  // the first process of its namespace; 0: none, it is our child

  /// `become` runs in the child, with the descriptor for ListPlace, and does not return.
  /// Errors  those of clone3(2): EPERM: this user may make no namespaces.
  ///         EEXIST: an id was taken meanwhile.
  static Result<NewProcess> begin(pid_t wanted, const RebirthPlan& plan,
                                  const std::function<void(int)>& become,
                                  std::vector<std::string>& refusals);
  /// It is about to enter its list.
  Result<ListPlace> wait_until_ready(std::vector<std::string>& refusals);
  /// Whether the thread's breakpoint is one, and not a call that failed.
  Result<Done> reached_stop(pid_t thread, std::vector<std::string>& refusals);
  /// Why it has ended, as it said.
  Error failure(const Error& error, std::vector<std::string>& refusals);
  /// Returns when it is gone.
  void kill() noexcept;
  int wait();

 private:
  void wait_for_dead_threads() const;
  sys::Descriptor words_;
};

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
