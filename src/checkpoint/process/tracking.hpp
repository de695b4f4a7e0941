// Tracking: which pages of another process were written since the last look. The kernel notes it
// (userfaultfd with WP_ASYNC, and PAGEMAP_SCAN; both 6.7): no fault of the process is ever ours.
#pragma once

#include <sys/types.h>

#include <vector>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/proc_files.hpp"
#include "checkpoint/process/ranges.hpp"
#include "sys/fd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

class Tracking {
 public:
  /// `userfaultfd` is one for that process's memory. Errors  ENOTSUP: an older kernel.
  static Result<Tracking> begin(pid_t process, sys::Descriptor userfaultfd);

  /// While the process runs: takes new mappings in, and marks all written pages as not written.
  /// What was written until then is remembered, for look(): there is less to mark in the stop.
  Result<Done> look_ahead(const std::vector<MapLine>& lines);

  /// What look_ahead() has found.
  [[nodiscard]] const Runs& ahead() const noexcept { return ahead_; }

  struct Written {
    Runs written;  // since the last look, in memory that was watched all the time
    Runs fresh;    // of these: since look_ahead()
    Runs watched;  // what of `lines` that is
  };
  /// While the process is stopped. Marks all as not written.
  Result<Written> look(const std::vector<MapLine>& lines);

 private:
  Result<Done> scan(const MapLine& line, Runs& out, bool& watched);
  sys::Descriptor userfaultfd_;
  sys::Descriptor pagemap_;
  Runs ahead_;
};

/// Whether it is private memory, and not the kernel's own.
bool can_be_watched(const MapLine& line);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
