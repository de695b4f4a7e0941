// The programs that the questions about guards run, as often as asked.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "harness/program.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

struct Subject {
  std::string name;
  Words words;
};

/// Those that are installed, with files to read that go with this object.
class ProgramSet {
 public:
  /// `share`: of what they do in guard.page.cpu. Skips the row if fewer than two are installed.
  ProgramSet(double share, Report& report);
  ~ProgramSet();
  ProgramSet(const ProgramSet&) = delete;
  ProgramSet& operator=(const ProgramSet&) = delete;
  [[nodiscard]] const std::vector<Subject>& subjects() const noexcept { return subjects_; }
  /// Leaves out those for which it is false. Returns the names of the others.
  std::string keep_if(const std::function<bool(const Subject&)>& condition);

 private:
  [[nodiscard]] std::string file(const char* name) const { return (folder_ / name).string(); }
  std::filesystem::path folder_;
  std::vector<Subject> subjects_;
};

/// How one run ended.
struct Finished {
  int status = 0;     // 0: as it should; 128 and the signal that killed it
  double cpu_ns = 0;  // of its processor time
};

/// `before` runs in the new process, which ends if it is false; `meanwhile` in this one, until the
/// other has ended. What the program prints goes nowhere.
Finished run_to_end(const Words& words, Report& report, const std::function<bool()>& before = {},
                    const std::function<void(pid_t)>& meanwhile = {});

/// Fails the row, with its words and status, unless it ended as it should.
void require_success(const Finished& finished, const Words& words, Report& report);

/// `pagetrap run OPTIONS -- WORDS`.
Words under_guard(const Words& options, const Words& words);

/// The geometric mean of `cost(subject)`.
double mean_over(const ProgramSet& set, const std::function<double(const Subject&)>& cost);

}  // namespace pagetrap::bench
