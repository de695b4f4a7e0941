// A subject, its images, and its restarts.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <pagetrap/checkpoint/process.hpp>

#include "support/folder.hpp"

namespace pagetrap::checkpoint {

std::string read_file(const std::string& path);
/// Makes a file that is there whole or not at all.
void write_file(const std::string& path, const std::string& text);
/// Whether it came, within ten seconds, while the process lives.
bool wait_for_file(const std::string& path, pid_t process);
std::string joined(const std::vector<std::string>& lines);

/// A process of the program `process_subject`, which plays a scenario in a folder of its own.
class Subject {
 public:
  explicit Subject(const std::string& scenario, const std::vector<std::string>& before = {});
  ~Subject();
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;

  [[nodiscard]] pid_t id() const noexcept { return id_; }
  [[nodiscard]] std::string file(const std::string& name) const { return folder_.file(name); }
  [[nodiscard]] std::string images() const { return folder_.file("images"); }
  /// Waits until it has its state. False: it is skipped, `why` says why.
  bool is_ready(std::string& why);
  void tell(const std::string& name, const std::string& words = {}) const;
  void forget(const std::string& name) const;
  /// Lets it check its state and end. Returns what is wrong; "right" if nothing.
  std::string finish();
  /// As waitpid(2) has it; -1: it does not end.
  int wait();
  void kill();
  [[nodiscard]] ProcessSaverOptions saving() const {
    ProcessSaverOptions options;
    options.directory = images();
    return options;
  }

 private:
  Folder folder_;
  pid_t id_ = 0;
};

/// Restarts it, lets it check its state and end. Returns what is wrong; "right" if nothing.
/// `image`: not the newest one.
std::string restart_and_finish(const Subject& subject, RestartMode mode,
                               const std::string& image = {});
const char* name_of(RestartMode mode);
inline constexpr RestartMode kModes[] = {RestartMode::eager, RestartMode::mapped,
                                         RestartMode::lazy};

/// As EXPECT_TRUE(result), with words.
template <class T>
::testing::AssertionResult worked(const Result<T>& result,
                                  const std::vector<std::string>& refusals = {}) {
  if (result) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << describe(result.error()) << "\n" << joined(refusals);
}

}  // namespace pagetrap::checkpoint
