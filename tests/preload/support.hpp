// Programs under `pagetrap run --memory`, each bounded in time.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace pagetrap::preload::test {

struct Ran {
  int status = -1;  // exit status; 128 + signal if it was killed
  std::string output;
  std::string errors;
};

struct How {
  unsigned uid = 0;  // not 0: as that user, without capabilities
  unsigned seconds = 55;
  std::string input{};
};

using Words = std::vector<std::string>;

/// A running program. Ended, if it still runs, with the object.
class Process {
 public:
  Process(const Words& words, unsigned uid);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  [[nodiscard]] pid_t id() const { return id_; }
  void signal(int number) const;
  /// Feeds `input`, collects what it prints, and waits. Kills it after `seconds`: status 128 + 9.
  Ran finish(const std::string& input, unsigned seconds);

 private:
  void reap();
  pid_t id_ = -1;
  int input_ = -1;
  int output_ = -1;
  int errors_ = -1;
  bool reaped_ = false;
  int status_ = 0;
};

Ran run(const Words& words, const How& how = {});

/// Copies of the command, its shim and the workload where every user may read them.
std::string command();
std::string workload();

/// `words` under a budget: memory as "24M".
Words under(const std::string& memory, const std::string& delivery, const Words& words,
            const std::string& report = "-");

/// Why that cannot be had here, or an empty string.
std::string why_not(const std::string& delivery, unsigned uid = 0);
/// Its path, or an empty string: then the test is skipped.
std::string find_program(const std::string& name);

}  // namespace pagetrap::preload::test
