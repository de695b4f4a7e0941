// A consistent image the old way: fork(), and the child has the heap as it was.
#pragma once

#include <sys/types.h>

#include <cstddef>

#include "harness/mapping.hpp"

namespace pagetrap::bench::rivals {

/// What the child does with the heap.
enum class ForkedChild {
  waits,      // nothing: for the time of fork() alone
  saves_all,  // copies all of it through a buffer, and writes that to /dev/null
};

/// One snapshot by fork(). WHY the bare system call: fork() would run handlers that a rival without
/// pagetrap does not have. Throws std::system_error.
class ForkSave {
 public:
  ForkSave(const std::byte* heap, std::size_t size_bytes, ForkedChild child);
  /// Lets the child go, and waits for its end.
  ~ForkSave();
  ForkSave(const ForkSave&) = delete;
  ForkSave& operator=(const ForkSave&) = delete;

  /// Until the child has saved everything. It still lives then, and with it the pages that are only
  /// its own.
  void wait();

  [[nodiscard]] double begin_ns() const noexcept { return begin_ns_; }
  [[nodiscard]] double end_ns() const noexcept { return end_ns_; }
  /// That fork() took.
  [[nodiscard]] double fork_ns() const noexcept { return end_ns_ - begin_ns_; }

 private:
  [[noreturn]] void be_the_child(const std::byte* heap, std::size_t size_bytes, ForkedChild child,
                                 const int* to_child, const int* from_child) const noexcept;
  Mapping buffer_;  // made and filled before: the child allocates nothing
  int to_child_ = -1;
  int from_child_ = -1;
  pid_t child_ = -1;
  double begin_ns_ = 0;
  double end_ns_ = 0;
};

}  // namespace pagetrap::bench::rivals
