#include "process/subject.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "checkpoint/heaps.hpp"
#include "harness/program.hpp"

namespace pagetrap::bench {

namespace {

constexpr long kPatience = 30'000;  // ms

// As WritingSubject below; gaps of less than 20 us are not written down.
constexpr const char* kPython = R"(
import os, sys, time
question, answer = sys.argv[1], sys.argv[2]
data = [float(i) for i in range(330000)]
gaps = []
turn = 0
last = time.monotonic_ns()
while True:
    for i in range(20):
        turn = (turn + 7919) % len(data)
        data[turn] += 1.0
    now = time.monotonic_ns()
    if now - last > 20000:
        gaps.append((last, now))
    last = now
    if turn % 997 == 0 and os.path.exists(question):
        with open(question) as file:
            what, begin, end = file.read().split()
        begin, end = float(begin), float(end)
        longest = max((b - a for a, b in gaps if b > begin and a < end), default=0)
        with open(answer + ".new", "w") as file:
            file.write(f"{longest}\n")
        os.remove(question)
        os.rename(answer + ".new", answer)
        gaps.clear()
        last = time.monotonic_ns()
)";

std::string question_file(const ScratchDirectory& scratch) { return scratch.file("question"); }
std::string answer_file(const ScratchDirectory& scratch) { return scratch.file("answer"); }

void write_whole(const std::string& path, const std::string& text) {
  {
    std::ofstream file(path + ".new");
    file << text;
  }
  std::filesystem::rename(path + ".new", path);
}

void have_nothing_open() {
  closefrom(0);
  open("/dev/null", O_RDWR);
  static_cast<void>(!dup(0));
  static_cast<void>(!dup(0));
}

[[noreturn]] void write_and_answer(std::size_t size_bytes, const Pattern& pattern,
                                   const std::string& question, const std::string& answer) {
  const PlainHeap heap(size_bytes);
  for (;;) {
    Writers writers(heap.data(), heap.size_bytes(), pattern);
    while (access(question.c_str(), F_OK) != 0) sleep_ms(2);
    writers.stop();
    std::string what;
    double begin = 0;
    double end = 0;
    std::ifstream(question) >> what >> begin >> end;
    const double found = what == "accesses" ? writers.accesses(begin, end)
                                            : writers.longest_gap(begin, end).length_ns();
    unlink(question.c_str());
    write_whole(answer, std::to_string(found) + "\n");
  }
}

}  // namespace

Subject::Subject(Report& report, const ScratchDirectory& scratch, const std::function<void()>& be) {
  unlink(question_file(scratch).c_str());
  unlink(answer_file(scratch).c_str());
  id_ = fork();
  report.check(id_ >= 0, "fork");
  if (id_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    have_nothing_open();
    be();
    _exit(1);
  }
  Questioner(report, scratch).wait_until_ready();
}

void Subject::kill() {
  if (id_ < 0) return;
  ::kill(id_, SIGKILL);
  while (waitpid(id_, nullptr, 0) < 0 && errno == EINTR) {
  }
  id_ = -1;
}

Subject::~Subject() { kill(); }

Questioner::Questioner(Report& report, const ScratchDirectory& scratch)
    : report_(report), question_(question_file(scratch)), answer_(answer_file(scratch)) {}

double Questioner::ask(const char* what, double begin_ns, double end_ns) {
  char text[96];
  std::snprintf(text, sizeof text, "%s %.0f %.0f\n", what, begin_ns, end_ns);
  write_whole(question_, text);
  for (long waited = 0; access(answer_.c_str(), F_OK) != 0; ++waited) {
    report_.check(waited < kPatience, "the process that is saved does not answer");
    sleep_ms(1);
  }
  double found = -1;
  std::ifstream(answer_) >> found;
  unlink(answer_.c_str());
  report_.check(found >= 0, "the process that is saved answered nonsense");
  return found;
}

double Questioner::longest_gap_ns(double begin_ns, double end_ns) {
  return ask("gap", begin_ns, end_ns);
}

double Questioner::accesses(double begin_ns, double end_ns) {
  return ask("accesses", begin_ns, end_ns);
}

void Questioner::wait_until_ready() { ask("gap", 0, 0); }

std::unique_ptr<Subject> make_writing_subject(Report& report, const ScratchDirectory& scratch,
                                              std::size_t size_bytes, const Pattern& pattern) {
  return std::make_unique<Subject>(report, scratch, [&] {
    write_and_answer(size_bytes, pattern, question_file(scratch), answer_file(scratch));
  });
}

std::unique_ptr<Subject> make_python_subject(Report& report, const ScratchDirectory& scratch) {
  const std::string python = find_program("python3");
  if (python.empty()) report.skip("python3 is not installed");
  return std::make_unique<Subject>(report, scratch, [&] {
    execl(python.c_str(), "python3", "-c", kPython, question_file(scratch).c_str(),
          answer_file(scratch).c_str(), nullptr);
  });
}

checkpoint::ProcessSaver attach_to(const Subject& subject, const ScratchDirectory& scratch,
                                   Report& report) {
  checkpoint::ProcessSaverOptions options;
  options.directory = scratch.file("images");
  options.keep = 1;
  options.full_every = 1'000'000;
  auto saver = checkpoint::ProcessSaver::attach(subject.id(), options);
  if (!saver) report.fail(describe(saver.error()));
  return std::move(*saver);
}

checkpoint::ProcessStatistics save(checkpoint::ProcessSaver& saver, bool full, Report& report) {
  const auto saved = saver.checkpoint({.full = full, .progress = {}});
  if (!saved) {
    std::string words = describe(saved.error());
    for (const std::string& line : saver.refusals()) words += "; " + line;
    if (saved.error().number == EPERM) report.skip("no process may be traced here: " + words);
    report.fail(words);
  }
  return *saved;
}

}  // namespace pagetrap::bench
