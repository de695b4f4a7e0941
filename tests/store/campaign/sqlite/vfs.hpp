// What an unmodified SQLite takes for its operating system.
#pragma once

#include <sqlite3.h>

#include "store/campaign/sqlite/files.hpp"
#include "store/campaign/workload.hpp"

namespace campaign {

/// Registered as the default while it lives. One connection at a time, so that locks are no
/// question.
class Vfs {
 public:
  /// `powersafe`: a sector that is being written when power fails keeps what is not written.
  Vfs(std::uint64_t seed, bool powersafe);
  ~Vfs();
  Vfs(const Vfs&) = delete;
  Vfs& operator=(const Vfs&) = delete;

  /// What the next connection finds.
  void mount(RecordedFiles& files) { files_ = &files; }

  [[nodiscard]] RecordedFiles& files() const { return *files_; }
  [[nodiscard]] bool powersafe() const { return powersafe_; }
  [[nodiscard]] Random& random() { return random_; }

 private:
  sqlite3_vfs vfs_{};
  RecordedFiles* files_ = nullptr;
  bool powersafe_;
  Random random_;
};

}  // namespace campaign
