// A scenario: a state that a process sets up, and checks again when it is told to. What it is told,
// and what it says, are files in a folder, so that nothing of that is open or mapped at a cut.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace subject {

class Stage {
 public:
  explicit Stage(std::string folder) : folder_(std::move(folder)) {}

  [[nodiscard]] std::string file(const std::string& name) const { return folder_ + "/" + name; }
  [[nodiscard]] const std::string& folder() const noexcept { return folder_; }

  /// Notes what is not true.
  void expect(bool truth, const std::string& what, const char* path = __builtin_FILE(),
              int line = __builtin_LINE());
  /// The state is there: says so, and waits until it is to be checked.
  void wait_for_go();
  /// Makes a file of this name, which is there whole or not at all.
  void say(const std::string& name, const std::string& words = {}) const;
  /// Waits for such a file.
  void wait_for(const std::string& name) const;
  [[nodiscard]] bool was_told(const std::string& name) const;
  /// Cannot be done on this machine, or by this user.
  [[noreturn]] void skip(const std::string& why) const;
  /// Whoever sees to it: "original", or the mode of the restart.
  [[nodiscard]] const std::string& run() const noexcept { return run_; }

  /// Something that a checkpoint refuses, in this `line`; then it is taken away.
  void obstacle(const std::string& line, const std::function<void()>& take_away);

  /// Returns what the process ends with.
  int verdict() const;

 private:
  std::string folder_;
  std::string run_;
  std::string wrong_;
};

using Play = void (*)(Stage&);
struct Scenario {
  const char* name;
  Play play;
};
std::vector<Scenario>& all_scenarios();
/// One at namespace scope for each scenario.
struct Registered {
  Registered(const char* name, Play play) { all_scenarios().push_back({name, play}); }
};

/// A system call that has to work while a scenario is set up.
long must(long result, const char* what);
void sleep_ms(int milliseconds);
/// The words behind `key:` in a file of /proc.
std::string proc_field(const std::string& path, const std::string& key);
std::string contents_of(const std::string& path);

}  // namespace subject
