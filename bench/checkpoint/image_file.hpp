// A place on a disk for images, gone when the measurement ends.
#pragma once

#include <string>

#include "harness/report.hpp"

namespace pagetrap::bench {

/// A directory of our own: in $TMPDIR, or /var/tmp, which is a disk where /tmp may be memory.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(Report& report);
  /// Only where it was made: a child that ends leaves it alone.
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }
  /// Skips the question if there is not so much room.
  void require(double bytes) const;

 private:
  Report& report_;
  std::string path_;
  int owner_;
};

}  // namespace pagetrap::bench
