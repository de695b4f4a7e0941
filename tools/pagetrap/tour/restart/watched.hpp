// A program that runs in the background with its output in files, and what became of it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <vector>

namespace pagetrap::tool {

/// Ended by SIGKILL with this object, if it still runs.
class Watched {
 public:
  /// Standard output and error go to files, which are begun anew. Throws std::system_error.
  Watched(const std::vector<std::string>& words, const std::string& output,
          const std::string& errors);
  ~Watched();
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

  [[nodiscard]] pid_t id() const noexcept { return id_; }
  [[nodiscard]] bool runs();
  /// Its exit status, or 128 and the signal that killed it; once it runs no more.
  [[nodiscard]] int status() const noexcept { return status_; }
  /// SIGKILL to it and to all processes below it; returns when none of them is left.
  void kill_all();

 private:
  pid_t id_ = -1;
  int status_ = -1;
};

std::string whole_file(const std::string& path);
std::size_t lines_in(const std::string& text);
void sleep_for_a_moment();

}  // namespace pagetrap::tool
