// process.restart_*: how soon does a process go on, and how fast at first?
#include <signal.h>

#include <optional>

#include "checkpoint/heaps.hpp"
#include "harness/clock.hpp"
#include "harness/statistics.hpp"
#include "process/questions.hpp"
#include "process/subject.hpp"

namespace pagetrap::bench {

namespace {

using checkpoint::RestartedProcess;
using checkpoint::RestartMode;

constexpr double kSecond = 1e9;

/// A process of 1 GiB that was saved and killed: its image is in the page cache.
class Saved {
 public:
  Saved(Report& report, const ScratchDirectory& scratch)
      : report_(report), directory_(scratch.file("images")) {
    require_memory(report, 4.5 * kGiB);
    scratch.require(3.0 * kGiB);
    const auto subject = make_writing_subject(report, scratch, kGiB, {});
    auto saver = attach_to(*subject, scratch, report);
    const auto statistics = save(saver, true, report);
    report.parameter("image_bytes", static_cast<double>(statistics.bytes));
    const double begin = now_ns();
    sleep_ms(1100);
    undisturbed_ = Questioner(report, scratch).accesses(begin, begin + kSecond);
  }

  /// Accesses in a second before it was saved.
  [[nodiscard]] double undisturbed() const noexcept { return undisturbed_; }

  [[nodiscard]] RestartedProcess restart(RestartMode mode) const {
    std::vector<std::string> refusals;
    checkpoint::RestartOptions options;
    options.mode = mode;
    auto started = RestartedProcess::start(directory_, options, refusals);
    if (started) return std::move(*started);
    std::string words = describe(started.error());
    for (const std::string& line : refusals) words += "; " + line;
    if (started.error().number == ENOTSUP && refusals.empty()) report_.skip(words);
    report_.fail(words);
  }

 private:
  Report& report_;
  std::string directory_;
  double undisturbed_ = 0;
};

void end(RestartedProcess& process) {
  kill(process.id(), SIGKILL);
  process.wait();
}

template <RestartMode Mode>
void measure_first_instruction(const Effort& effort, Report& report) {
  const ScratchDirectory scratch(report);
  const Saved saved(report, scratch);
  const auto one = [&](RestartMode mode) {
    RestartedProcess process = saved.restart(mode);
    const double taken = process.first_instruction_us() * 1e3;
    // It is a process, and runs.
    Questioner(report, scratch).wait_until_ready();
    end(process);
    return taken;
  };
  one(RestartMode::eager);
  one(Mode);
  for (int i = 0; i < (effort.quick ? 2 : 9); ++i) {
    double ours = 0;
    if (i % 2 == 0) ours = one(Mode);
    const double rival = one(RestartMode::eager);
    if (i % 2 != 0) ours = one(Mode);
    report.pair(ours, rival);
  }
}

// Of one process: its first second, and one in which all of its memory has been there for a while.
void measure_speed(const Effort& effort, Report& report) {
  const ScratchDirectory scratch(report);
  const Saved saved(report, scratch);
  Questioner questioner(report, scratch);
  std::vector<double> settled;
  std::vector<double> all_there_ms;
  for (int i = 0; i < (effort.quick ? 2 : 9); ++i) {
    RestartedProcess process = saved.restart(RestartMode::lazy);
    const double begin = now_ns();
    const auto done = process.finish();
    if (!done) report.fail(describe(done.error()));
    all_there_ms.push_back((now_ns() - begin) / 1e6);
    while (now_ns() < begin + 1.1 * kSecond) sleep_ms(10);
    const double first = questioner.accesses(begin, begin + kSecond);
    sleep_ms(500);
    const double later = now_ns();
    sleep_ms(1100);
    const double full = questioner.accesses(later, later + kSecond);
    report.check(first > 0 && full > 0, "a restarted process did nothing");
    settled.push_back(full / saved.undisturbed());
    report.pair(kSecond / first, kSecond / full);
    end(process);
  }
  report.parameter("settled_speed_against_before", median(settled));
  report.parameter("all_there_ms", median(all_there_ms));
}

}  // namespace

void add_process_restarts(Questions& questions) {
  questions.push_back({.id = "process.restart_1g",
                       .asks = "from a call of restart to the first instruction, 1 GiB",
                       .ours = "lazy restart, first instruction",
                       .rival = "eager restart, first instruction",
                       .unit = "ns",
                       .target = 0.05,
                       .measure = measure_first_instruction<RestartMode::lazy>,
                       .scheduling = Scheduling::fair_group,
                       .bound = "making the process: its files, mappings and threads"});
  questions.push_back({.id = "process.restart_1g.mapped",
                       .asks = "the same, where the kernel maps the image",
                       .ours = "mapped restart, first instruction",
                       .rival = "eager restart, first instruction",
                       .unit = "ns",
                       .target = 0.05,
                       .measure = measure_first_instruction<RestartMode::mapped>,
                       .scheduling = Scheduling::fair_group,
                       .bound = "making the process: its files, mappings and threads"});
  questions.push_back({.id = "process.restart_speed",
                       .asks = "time for an access in the first second after a lazy restart, 1 GiB",
                       .ours = "an access, first second",
                       .rival = "an access at full speed",
                       .unit = "ns",
                       .target = 2,
                       .measure = measure_speed,
                       .scheduling = Scheduling::fair_group,
                       .bound = "one thread that checks and copies pages, and two CPUs for it and "
                                "the two threads that wait for them"});
}

}  // namespace pagetrap::bench
