// A second process that measures on demand, for sides that cannot share one address space.
#pragma once

#include <sys/types.h>

#include <functional>

#include "harness/report.hpp"

namespace pagetrap::bench {

/// Forks a process that calls `make()` once, which the constructor waits for, and then the function
/// that it returned for each measure(). It inherits the scheduling and the CPU of its maker, which
/// waits meanwhile: only one of them is ever running.
class Peer {
 public:
  using Batch = std::function<double()>;
  Peer(Report& report, const std::function<Batch()>& make);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  /// One batch in the peer: the cost that its function returned.
  double measure();
  /// The same. False: the process is gone (the kernel may have killed it).
  bool try_measure(double& cost);

 private:
  double wait_for_answer();
  Report& report_;
  pid_t process_ = -1;
  int to_peer_ = -1;
  int from_peer_ = -1;
};

}  // namespace pagetrap::bench
