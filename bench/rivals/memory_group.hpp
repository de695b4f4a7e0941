// A memory control group of its own for a rival, so that it gets as much memory as our side.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

namespace pagetrap::bench::rivals {

/// Makes a group below the one this process is in, version 1 or 2. Needs root. A process
/// of its own removes it at the end, when no process is in it any more, even if the measuring
/// process dies.
class MemoryGroup {
 public:
  /// On failure reason() says why, and the object is of no use.
  explicit MemoryGroup(std::size_t limit_bytes);
  ~MemoryGroup();
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;

  [[nodiscard]] bool there() const noexcept { return reason_.empty(); }
  [[nodiscard]] const std::string& reason() const noexcept { return reason_; }
  /// The calling process joins. False if the kernel refuses.
  [[nodiscard]] bool join() const;
  /// What is above it is swapped out before this returns. False: some of it cannot be.
  [[nodiscard]] bool set_limit(std::size_t limit_bytes) const;
  /// What its processes have, the kernel's memory for them included, but not pages of files.
  [[nodiscard]] std::size_t used_bytes() const;
  /// The most that it had at any time, pages of files that it was the first to read included.
  /// 0: the kernel does not keep it (version 2 before 5.19).
  [[nodiscard]] std::size_t peak_bytes() const;
  /// Anonymous memory goes as readily as files do.
  void prefer_swap() const;

 private:
  void be_removed_at_the_end();
  pid_t keeper_ = -1;
  int to_keeper_ = -1;
  bool second_version_ = false;
  std::string folder_;
  std::string reason_;
};

}  // namespace pagetrap::bench::rivals
