// process.pause_*: how long does a process stand still while it is saved, as its own threads see
// it?
//
// Both sides save the same running process, in turns. Ours is the longest time that one of its
// threads made no progress, of what overlaps the cut; the rival's the same of what overlaps its
// stop. What the scheduler adds is in both: two threads that compute, and somebody who saves them,
// on two CPUs.
#include <filesystem>

#include "checkpoint/heaps.hpp"
#include "harness/clock.hpp"
#include "harness/statistics.hpp"
#include "process/questions.hpp"
#include "process/subject.hpp"
#include "rivals/stop_and_write.hpp"

namespace pagetrap::bench {

namespace {

constexpr long kBetween = 200;  // ms, in which the process writes
constexpr long kAfter = 20;     // for a gap that began in the stop to end

// Numbers beside the pairs, which become parameters.
struct Beside {
  std::vector<double> frozen_us, freezing_us, save_ms, bytes, copied, forked, rival_us, rival_bytes;

  void add(const checkpoint::ProcessStatistics& statistics) {
    frozen_us.push_back(statistics.frozen_us);
    freezing_us.push_back(statistics.freezing_us);
    save_ms.push_back(statistics.save_us / 1e3);
    bytes.push_back(static_cast<double>(statistics.bytes));
    copied.push_back(static_cast<double>(statistics.pages_copied));
    forked.push_back(statistics.forked ? 1 : 0);
  }
  void report(Report& report) const {
    report.parameter("frozen_us", median(frozen_us));
    report.parameter("freezing_us", median(freezing_us));
    report.parameter("save_ms", median(save_ms));
    report.parameter("image_bytes", median(bytes));
    report.parameter("pages_copied", median(copied));
    report.parameter("forked", median(forked));
    report.parameter("rival_stop_us", median(rival_us));
    report.parameter("rival_bytes", median(rival_bytes));
  }
};

enum class Image { first, increment };

double our_pause(checkpoint::ProcessSaver& saver, Image image, Questioner& questioner,
                 Report& report, Beside& beside) {
  sleep_ms(kBetween);
  const double begin = now_ns();
  const auto statistics = save(saver, image == Image::first, report);
  const double end = now_ns();
  beside.add(statistics);
  report.check(image == Image::first || statistics.parent != checkpoint::ImageId{},
               "an image was to be an increment, and is none");
  sleep_ms(kAfter);
  // The first time has a stop in its preparations too.
  const double from = image == Image::first ? begin : begin + statistics.protecting_us * 1e3;
  return questioner.longest_gap_ns(from, end - statistics.save_us * 1e3);
}

double rival_pause(const Subject& subject, const ScratchDirectory& scratch, Questioner& questioner,
                   Beside& beside) {
  sleep_ms(kBetween);
  const std::string path = scratch.file("core");
  const auto stopped = rivals::stop_and_write(subject.id(), path);
  beside.rival_us.push_back(stopped.stop_ns() / 1e3);
  beside.rival_bytes.push_back(stopped.bytes);
  sleep_ms(kAfter);
  const double seen = questioner.longest_gap_ns(stopped.begin_ns, stopped.end_ns);
  std::filesystem::remove(path);
  return seen;
}

using MakeSubject = std::unique_ptr<Subject> (*)(Report&, const ScratchDirectory&);

void measure_increments(const Effort& effort, Report& report, MakeSubject make) {
  const ScratchDirectory scratch(report);
  scratch.require(4.0 * kGiB);
  const auto subject = make(report, scratch);
  Questioner questioner(report, scratch);
  auto saver = attach_to(*subject, scratch, report);
  Beside beside;
  Beside ignored;
  our_pause(saver, Image::first, questioner, report, ignored);
  our_pause(saver, Image::increment, questioner, report, ignored);
  rival_pause(*subject, scratch, questioner, ignored);
  for (int i = 0; i < (effort.quick ? 3 : 15); ++i) {
    double ours = 0;
    if (i % 2 == 0) ours = our_pause(saver, Image::increment, questioner, report, beside);
    const double rival = rival_pause(*subject, scratch, questioner, beside);
    if (i % 2 != 0) ours = our_pause(saver, Image::increment, questioner, report, beside);
    report.pair(ours, rival);
  }
  beside.report(report);
}

void measure_first(const Effort& effort, Report& report, MakeSubject make) {
  const ScratchDirectory scratch(report);
  scratch.require(4.0 * kGiB);
  Beside beside;
  for (int i = 0; i < (effort.quick ? 2 : 9); ++i) {
    const auto subject = make(report, scratch);
    Questioner questioner(report, scratch);
    auto saver = attach_to(*subject, scratch, report);
    double ours = 0;
    if (i % 2 == 0) ours = our_pause(saver, Image::first, questioner, report, beside);
    const double rival = rival_pause(*subject, scratch, questioner, beside);
    if (i % 2 != 0) ours = our_pause(saver, Image::first, questioner, report, beside);
    report.pair(ours, rival);
    std::filesystem::remove_all(scratch.file("images"));
  }
  beside.report(report);
}

std::unique_ptr<Subject> make_few(Report& report, const ScratchDirectory& scratch) {
  require_memory(report, 3.5 * kGiB);
  Pattern pattern;
  pattern.only_bytes = 16 << 20;
  return make_writing_subject(report, scratch, kGiB, pattern);
}

std::unique_ptr<Subject> make_everywhere(Report& report, const ScratchDirectory& scratch) {
  require_memory(report, 3.5 * kGiB);
  return make_writing_subject(report, scratch, kGiB, {});
}

template <MakeSubject Make>
void increments(const Effort& effort, Report& report) {
  measure_increments(effort, report, Make);
}
template <MakeSubject Make>
void first(const Effort& effort, Report& report) {
  measure_first(effort, report, Make);
}

}  // namespace

void add_process_pauses(Questions& questions) {
  const auto add = [&](const char* id, const char* asks, const char* ours, double target,
                       void (*measure)(const Effort&, Report&), const char* bound) {
    questions.push_back({.id = id,
                         .asks = asks,
                         .ours = ours,
                         .rival = "all threads stopped, all memory written (as gcore)",
                         .unit = "ns",
                         .target = target,
                         .measure = measure,
                         .scheduling = Scheduling::fair_group,
                         .bound = bound});
  };
  constexpr const char* kFork = "fork(): it copies the page tables of all memory";
  constexpr const char* kCensus =
      "a stop, some hundred system calls in the process and as many reads of /proc, whatever its "
      "size; and a turn on a busy CPU";
  add("process.pause_1g",
      "the longest stop of a process of 1 GiB, 2 threads of which write to 16 MiB, in an increment",
      "pause of 1 GiB, increment", 0.01, increments<make_few>,
      "copying the pages that were written, and the scan of all page tables that finds them");
  add("process.pause_1g_everywhere",
      "the same, where the threads write everywhere: most pages change between two images",
      "pause of 1 GiB, all changes", 0.01, increments<make_everywhere>, kFork);
  add("process.pause_1g_full", "the same in the first image, which is a full one",
      "pause of 1 GiB, first image", 0.01, first<make_everywhere>, kFork);
  add("process.pause_small",
      "the longest stop of python3 with 10 MiB of numbers, which it writes to, in an increment",
      "pause of python3, 10 MiB", 0.05, increments<make_python_subject>, kCensus);
}

}  // namespace pagetrap::bench
