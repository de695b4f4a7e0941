// Another program in a process of its own, for rows about programs that know nothing of us.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace pagetrap::bench {

using Words = std::vector<std::string>;

/// A running program, with pipes to its standard input and from its output. It dies with the
/// thread that made it, and with this object.
class Program {
 public:
  /// `before` runs in the new process before the program does; the process ends if it is false.
  /// Throws std::system_error: no process.
  explicit Program(const Words& words, const std::function<bool()>& before = {});
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// A line to its input. False: nobody reads it any more.
  bool tell(const std::string& line);
  /// The next line of its output, without its end. False: there is none, and will not be.
  bool hear(std::string& line);
  /// Whether it still runs.
  [[nodiscard]] bool runs();
  /// Waits for its end: its exit status, or 128 and the signal that killed it.
  int wait();
  /// Its first thread, as pin_to_cpu() does it for the calling one. Threads it has already stay
  /// free.
  void pin_to_cpu(int index) const;
  /// What the kernel counts as its anonymous memory, in RAM.
  [[nodiscard]] std::size_t memory_bytes() const;

 private:
  pid_t process_ = -1;
  int to_program_ = -1;
  int from_program_ = -1;
  bool reaped_ = false;
  int status_ = 0;
  std::string heard_;
};

/// Its path, in the folders where distributions put programs: not in PATH, where wrappers come
/// first that start something else. Empty: it is not installed.
std::string find_program(const std::string& name);
/// The command that runs this: benchmarks are linked into it. Empty: no /proc.
std::string own_command();

}  // namespace pagetrap::bench
