// A process to be saved, and what it saw of it. It has no descriptor that anybody else has, since
// no image could have such: it is asked by files in a directory, and answers there.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include <pagetrap/checkpoint/process.hpp>

#include "checkpoint/image_file.hpp"
#include "checkpoint/writers.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

class Subject {
 public:
  /// `be` runs in the new process, with nothing open but /dev/null as 0, 1 and 2.
  Subject(Report& report, const ScratchDirectory& scratch, const std::function<void()>& be);
  /// Killed, if it is still there.
  ~Subject();
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;

  [[nodiscard]] pid_t id() const noexcept { return id_; }
  /// Returns when none of it is left.
  void kill();

 private:
  pid_t id_ = -1;
};

/// What such a process is asked, whoever is its parent by now.
class Questioner {
 public:
  Questioner(Report& report, const ScratchDirectory& scratch);
  /// The longest stop of a thread that was under way at some time between the two (as of now_ns()).
  double longest_gap_ns(double begin_ns, double end_ns);
  /// Of all threads.
  double accesses(double begin_ns, double end_ns);
  /// Waits until it answers at all: it is made, and runs.
  void wait_until_ready();

 private:
  double ask(const char* what, double begin_ns, double end_ns);
  Report& report_;
  std::string question_;
  std::string answer_;
};

/// A heap of `size_bytes`, which Writers write to for as long as the process lives.
std::unique_ptr<Subject> make_writing_subject(Report& report, const ScratchDirectory& scratch,
                                              std::size_t size_bytes, const Pattern& pattern);
/// An interpreter that writes to 10 MiB. Skips the question where there is no python3.
std::unique_ptr<Subject> make_python_subject(Report& report, const ScratchDirectory& scratch);

/// Attaches to it; images go to the scratch directory.
checkpoint::ProcessSaver attach_to(const Subject& subject, const ScratchDirectory& scratch,
                                   Report& report);
/// A checkpoint that must work.
checkpoint::ProcessStatistics save(checkpoint::ProcessSaver& saver, bool full, Report& report);

}  // namespace pagetrap::bench
