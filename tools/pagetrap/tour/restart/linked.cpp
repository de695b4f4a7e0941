// Checkpoints of whole processes at work: a long computation by an interpreter that knows nothing
// of us, killed twice with whoever watched over it.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../../../bench/rivals/stop_and_write.hpp"
#include "../../run/launch.hpp"
#include "../../text/progress.hpp"
#include "../../text/screen.hpp"
#include "../chapter.hpp"
#include "../folder.hpp"
#include "watched.hpp"

namespace pagetrap::tool {
namespace {

using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;

// Which number below so many takes the longest to come down to 1?
constexpr const char* kPython = R"(
import sys
limit, step = int(sys.argv[1]), int(sys.argv[2])
known = [0] * limit
known[1] = 1
best = 1
for n in range(2, limit):
    m, steps = n, 0
    while m >= n:
        m = 3 * m + 1 if m % 2 else m // 2
        steps += 1
    known[n] = steps + known[m]
    if known[n] > known[best]:
        best = n
    if (n + 1) % step == 0:
        print(f"below {n + 1}: {best}, {known[best] - 1} steps", flush=True)
)";
constexpr const char* kPerl = R"(
$| = 1;
my ($limit, $step) = @ARGV;
my @known = (0) x $limit;
$known[1] = 1;
my $best = 1;
for my $n (2 .. $limit - 1) {
  my ($m, $steps) = ($n, 0);
  while ($m >= $n) { $m = $m % 2 ? 3 * $m + 1 : $m / 2; ++$steps }
  $known[$n] = $steps + $known[$m];
  $best = $n if $known[$n] > $known[$best];
  print "below ", $n + 1, ": $best, ", $known[$best] - 1, " steps\n" if ($n + 1) % $step == 0;
}
)";

constexpr std::size_t kLines = 30;
constexpr std::chrono::seconds kPatience{60};

struct Computation {
  std::string name;
  Words words;
};

Computation choose(const TourPace& pace) {
  const std::size_t limit = pace.quick ? 900'000 : 3'000'000;
  const Words sizes{std::to_string(limit), std::to_string(limit / kLines)};
  // Not in PATH, where wrappers come first that start something else.
  for (const char* const python : {"/usr/bin/python3", "/usr/local/bin/python3"})
    if (::access(python, X_OK) == 0)
      return {"python3", {python, "-c", kPython, sizes[0], sizes[1]}};
  if (::access("/usr/bin/perl", X_OK) == 0)
    return {"perl", {"/usr/bin/perl", "-e", kPerl, sizes[0], sizes[1]}};
  return {};
}

void expect_in_time(Clock::time_point begun) {
  if (Clock::now() - begun > kPatience) throw std::runtime_error("it took more than a minute");
}

struct Undisturbed {
  std::string output;
  bench::rivals::StopAndWrite stopped;
  std::string not_stopped;  // why
};

/// As it would have been. Debuggers save it once, in the middle.
Undisturbed run_undisturbed(const Computation& computation, const std::string& folder) {
  Progress progress;
  progress.show("computing, undisturbed ...");
  Undisturbed result;
  Watched program(computation.words, folder + "/undisturbed", folder + "/errors");
  const auto begun = Clock::now();
  bool saved = false;
  while (program.runs()) {
    sleep_for_a_moment();
    expect_in_time(begun);
    if (saved || lines_in(whole_file(folder + "/undisturbed")) < kLines / 2) continue;
    saved = true;
    try {
      result.stopped = bench::rivals::stop_and_write(program.id());
    } catch (const std::exception& error) {
      result.not_stopped = error.what();
    }
  }
  result.output = whole_file(folder + "/undisturbed");
  if (program.status() != 0)
    throw std::runtime_error(computation.name + ": " + whole_file(folder + "/errors"));
  return result;
}

/// Of a line that `pagetrap run --report` wrote.
double number_in(const std::string& line, const std::string& name) {
  const auto at = line.find("\"" + name + "\": ");
  return at == std::string::npos ? 0 : std::strtod(line.c_str() + at + name.size() + 4, nullptr);
}

struct Image {
  bool whole = false;
  double stop_ns = 0;
  double bytes = 0;
};

std::vector<Image> images_in(const std::string& report, std::size_t from) {
  std::vector<Image> images;
  for (std::size_t at = from, end = 0; (end = report.find('\n', at)) != std::string::npos;
       at = end + 1) {
    const std::string line = report.substr(at, end - at);
    images.push_back(
        {line.find("\"parent\": \"00000000000000000000000000000000\"") != std::string::npos,
         number_in(line, "frozen_us") * 1e3, number_in(line, "bytes")});
  }
  return images;
}

/// Once begun or restarted, until it was killed or ended.
struct Life {
  std::size_t first_lines = 0;  // of output, when it began
  std::size_t last_lines = 0;
  bool killed = false;
  double first_instruction_ms = 0;
  std::string mode;
  std::vector<Image> images;
};

/// Why it cannot be shown here, which is no fault.
struct LeftOut : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Story {
 public:
  Story(Computation computation, std::string folder, const TourPace& pace)
      : computation_(std::move(computation)),
        folder_(std::move(folder)),
        every_(pace.quick ? "60ms" : "250ms") {}

  /// Killed when there are that many lines, and images since; 0: goes on to its end.
  Life live(std::size_t until_lines) {
    Progress progress;
    progress.show(until_lines != 0 ? "computing, until a SIGKILL ..." : "computing to the end ...");
    Life life;
    const std::size_t reported = whole_file(report()).size();
    const bool restarted = begun_;
    Watched watcher(restarted ? restart() : run(), restarted ? folder_ + "/nothing" : output(),
                    restarted ? said() : folder_ + "/errors");
    const auto begun = Clock::now();
    bool looked = !restarted;
    begun_ = true;
    while (watcher.runs()) {
      sleep_for_a_moment();
      expect_in_time(begun);
      if (!looked && look_at_start(life)) looked = true;
      const std::size_t lines = lines_in(whole_file(output()));
      if (until_lines == 0 || !looked || lines < until_lines) continue;
      if (images_in(whole_file(report()), reported).size() < 2 && lines + 3 < kLines) continue;
      watcher.kill_all();
      life.killed = true;
    }
    if (!looked) look_at_start(life);
    life.last_lines = lines_in(whole_file(output()));
    life.images = images_in(whole_file(report()), reported);
    if (!life.killed && watcher.status() == kUnable)
      throw LeftOut(whole_file(restarted ? said() : folder_ + "/errors"));
    if (!life.killed && watcher.status() != kOk)
      throw std::runtime_error("it ended with " + std::to_string(watcher.status()) + " " +
                               whole_file(restarted ? said() : folder_ + "/errors"));
    if (life.killed && life.images.empty() && !restarted)
      throw LeftOut(whole_file(folder_ + "/errors"));
    return life;
  }
  [[nodiscard]] std::string output() const { return folder_ + "/output"; }

 private:
  [[nodiscard]] std::string report() const { return folder_ + "/report"; }
  [[nodiscard]] std::string said() const { return folder_ + "/said"; }
  [[nodiscard]] std::string images() const { return folder_ + "/images"; }

  Words run() const {
    Words words{launch::own_file(), "run", "--checkpoint", images(), "--every", every_, "--report",
                report(),           "--"};
    words.insert(words.end(), computation_.words.begin(), computation_.words.end());
    return words;
  }
  Words restart() const {
    return {launch::own_file(), "restart", "--verbose", "--report", report(), images()};
  }

  // "... process 1234, lazy, first instruction after 5.1 ms"
  bool look_at_start(Life& life) const {
    const std::string text = whole_file(said());
    constexpr const char* kBefore = "first instruction after ";
    const auto at = text.find(kBefore);
    if (at == std::string::npos || text.find('\n', at) == std::string::npos) return false;
    life.first_instruction_ms =
        std::strtod(text.c_str() + at + std::string(kBefore).size(), nullptr);
    life.first_lines = lines_in(whole_file(output()));
    return true;
  }

  Computation computation_;
  std::string folder_;
  std::string every_;
  bool begun_ = false;
};

double middle(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <class Field>
double middle_of(const std::vector<Image>& images, bool whole, Field field) {
  std::vector<double> values;
  for (const Image& image : images)
    if (image.whole == whole) values.push_back(image.*field);
  return middle(std::move(values));
}

std::string stop_text(const std::vector<Image>& images, bool whole) {
  const double stop = middle_of(images, whole, &Image::stop_ns);
  return stop == 0 ? "" : duration_text(stop);
}

std::string image_text(const std::vector<Image>& images, bool whole) {
  const double bytes = middle_of(images, whole, &Image::bytes);
  return bytes == 0 ? "" : size_text(bytes);
}

void print_lives(const std::vector<Life>& lives) {
  Table table({Align::left, Align::right, Align::right, Align::right, Align::right, Align::right,
               Align::right, Align::right, Align::left});
  table.add({"", "goes on", "lines of", "images", "whole:", "it", "changes:", "it", ""});
  table.add({"", "after", "output", "", "written", "stood", "written", "stood", ""});
  for (std::size_t i = 0; i < lives.size(); ++i) {
    const Life& life = lives[i];
    table.add({i == 0 ? "run" : "restart",
               i == 0 ? "" : duration_text(life.first_instruction_ms * 1e6),
               std::to_string(life.first_lines) + " to " + std::to_string(life.last_lines),
               std::to_string(life.images.size()), image_text(life.images, true),
               stop_text(life.images, true), image_text(life.images, false),
               stop_text(life.images, false),
               life.killed ? Cell("SIGKILL", Style::bold) : Cell("the end")});
  }
  table.print();
}

void compare_stops(const std::vector<Life>& lives, const Undisturbed& undisturbed) {
  std::vector<Image> images;
  for (const Life& life : lives)
    images.insert(images.end(), life.images.begin(), life.images.end());
  const double ours = middle_of(images, false, &Image::stop_ns);
  if (!undisturbed.not_stopped.empty()) {
    print_paragraph("How long a debugger stops it could not be measured: " +
                    undisturbed.not_stopped);
    return;
  }
  print_paragraph("A debugger that saves it stops it until its " +
                  size_text(undisturbed.stopped.bytes) +
                  " are written: " + duration_text(undisturbed.stopped.stop_ns()) + ", against " +
                  duration_text(middle_of(images, true, &Image::stop_ns)) + " for a whole image" +
                  (ours == 0 ? "" : " and " + duration_text(ours) + " for what has changed") + ".");
}

bool show_story(const TourPace& pace) {
  const Computation computation = choose(pace);
  if (computation.words.empty()) {
    print_paragraph("Left out: neither python3 nor perl is installed.");
    return true;
  }
  const Folder folder(std::filesystem::temp_directory_path());
  const Undisturbed undisturbed = run_undisturbed(computation, folder.path());
  Story story(computation, folder.path(), pace);
  print_paragraph("Which number takes the most steps to come down to 1, by " + computation.name +
                  ": `pagetrap run --checkpoint images --every T -- " + computation.name +
                  " ...`. It is killed twice by SIGKILL, and so is the command that watches over "
                  "it; `pagetrap restart images` goes on from the last image.");
  std::printf("\n");
  std::vector<Life> lives;
  try {
    for (const std::size_t until : {kLines / 3, 2 * kLines / 3, std::size_t{0}})
      lives.push_back(story.live(until));
  } catch (const LeftOut& why) {
    print_paragraph(std::string("Left out, for this machine or this user cannot: ") + why.what());
    return true;
  }
  print_lives(lives);
  std::printf("\n");
  compare_stops(lives, undisturbed);
  const auto killed =
      std::count_if(lives.begin(), lives.end(), [](const Life& life) { return life.killed; });
  const std::string output = whole_file(story.output());
  const bool right = output == undisturbed.output && lines_in(output) == kLines && killed == 2;
  print_paragraph(right ? "verdict  killed twice, its output is that of an undisturbed run: " +
                              output.substr(output.rfind('\n', output.size() - 2) + 1)
                        : "verdict  its output DIFFERS from that of an undisturbed run",
                  2, 11, right ? Style::good : Style::bad);
  return right;
}

}  // namespace

bool tell_restart(const TourPace& pace) {
  std::printf("\n");
  print_paragraph(
      "A whole process, threads, files and all, is saved while it runs, and nothing in it knows. "
      "It "
      "stands still only for the cut: a fork() of its memory, or a copy of the few pages that were "
      "written since the image before. A restart has its first instruction run before its memory "
      "is there, which comes when it is touched.");
  std::printf("\n");
  try {
    return show_story(pace);
  } catch (const std::exception& error) {
    print_paragraph(std::string("It did not run: ") + error.what(), 2, 4, Style::bad);
    return false;
  }
}

}  // namespace pagetrap::tool
