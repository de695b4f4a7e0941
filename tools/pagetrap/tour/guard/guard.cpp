// Guards at work: examples/reply_cache.cpp and its mistakes, run as anybody would run them.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../run/launch.hpp"
#include "../../text/progress.hpp"
#include "../../text/screen.hpp"
#include "../chapter.hpp"
#include "ran.hpp"

namespace pagetrap::tool {
namespace {

constexpr int kReported = 66;

struct Mistake {
  const char* option;
  const char* words;
};
constexpr std::array<Mistake, 3> kMistakes{{
    {"overflow", "a terminating zero without room"},
    {"stale", "an entry is evicted and still used"},
    {"twice", "a reply is freed by two functions"},
}};

struct Strength {
  const char* name;
  Words options;
};

/// Beside the command, in the build or installed. Empty: nowhere.
std::string find_example() {
  const auto folder = std::filesystem::path(launch::own_file()).parent_path();
  for (const char* const place :
       {"examples", "../lib/pagetrap", "../" PAGETRAP_LIBDIR "/pagetrap"}) {
    const auto found = (folder / place / "reply_cache").lexically_normal();
    if (::access(found.c_str(), X_OK) == 0) return found.string();
  }
  return {};
}

class Server {
 public:
  explicit Server(std::string file) : file_(std::move(file)) {}

  [[nodiscard]] Ran plain(const Words& arguments) const { return run({}, arguments); }
  [[nodiscard]] Ran guarded(const Words& options, const Words& arguments) const {
    Words words{launch::own_file(), "run"};
    words.insert(words.end(), options.begin(), options.end());
    words.emplace_back("--");
    return run(words, arguments);
  }

 private:
  [[nodiscard]] Ran run(Words words, const Words& arguments) const {
    words.push_back(file_);
    words.insert(words.end(), arguments.begin(), arguments.end());
    return run_program(words);
  }
  std::string file_;
};

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

/// What the report says, without who says it.
std::string finding_in(const std::string& report) {
  static const std::string kPrefix = "pagetrap: guard: ";
  const std::string line = first_line(report);
  return line.starts_with(kPrefix) ? line.substr(kPrefix.size()) : line;
}

std::string end_without_guards(const Ran& ran) {
  if (ran.status == 0) return "nothing: " + first_line(ran.output);
  const std::string how = ran.status > 128 ? "killed by signal " + std::to_string(ran.status - 128)
                                           : "exit status " + std::to_string(ran.status);
  return how + (ran.output.empty() ? "" : ": " + first_line(ran.output));
}

// --- three mistakes ------------------------------------------------------------------------------

bool show_mistakes(const Server& server) {
  bool right = true;
  std::string report;
  Table table({Align::left, Align::left});
  for (const Mistake& mistake : kMistakes) {
    const Words arguments{"--bug", mistake.option};
    const Ran plain = server.plain(arguments);
    const Ran guarded = server.guarded({"--guard"}, arguments);
    const bool found = guarded.status == kReported;
    right = right && found;
    table.add({Cell(mistake.option, Style::bold), mistake.words});
    table.add({"  as it is", end_without_guards(plain)});
    table.add({"  --guard", found ? Cell(finding_in(guarded.output), Style::good)
                                  : Cell("NOT found: " + end_without_guards(guarded), Style::bad)});
    if (mistake.option == std::string("stale")) report = guarded.output;
  }
  table.print();
  print_heading("The report");
  print_paragraph(
      "Of the second one, as it was printed (`pagetrap run --guard -- reply_cache "
      "--bug stale`):");
  std::printf("\n%s\n", report.c_str());
  return right;
}

// --- the strengths -------------------------------------------------------------------------------

double median(std::vector<double> times) {
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2),
                   times.end());
  return times[times.size() / 2];
}

double cost(const Ran& ran) {
  if (ran.status != 0) throw std::runtime_error("reply_cache: " + end_without_guards(ran));
  return ran.cpu_ns;
}

std::string found_by(const Server& server, const Words& options) {
  std::string names;
  for (const Mistake& mistake : kMistakes) {
    Words quiet = options;
    quiet.emplace_back("--guard-no-symbols");
    if (server.guarded(quiet, {"--bug", mistake.option, "--requests", "5000"}).status == kReported)
      names += (names.empty() ? "" : ", ") + std::string(mistake.option);
  }
  return names.empty() ? "none this time" : names;
}

void show_strengths(const Server& server, const TourPace& pace) {
  const std::array<Strength, 5> strengths{{
      {"page", {"--guard=page"}},
      {"page+cold", {"--guard=page+cold"}},
      {"alias", {"--guard=alias"}},
      {"alias, lazy", {"--guard=alias", "--guard-revoke", "lazy"}},
      {"sample, 1 in 1000", {"--guard=sample"}},
  }};
  const Words requests{"--requests", pace.quick ? "10000" : "50000"};
  const int rounds = pace.quick ? 3 : 7;
  std::vector<double> plain;
  std::array<std::vector<double>, strengths.size()> guarded;
  std::array<std::string, strengths.size()> found;
  {
    Progress progress;
    progress.show("each strength at work ...");
    for (int round = 0; round < rounds; ++round) {
      plain.push_back(cost(server.plain(requests)));
      for (std::size_t i = 0; i < strengths.size(); ++i)
        guarded[i].push_back(cost(server.guarded(strengths[i].options, requests)));
    }
    for (std::size_t i = 0; i < strengths.size(); ++i)
      found[i] = found_by(server, strengths[i].options);
  }
  Table table({Align::left, Align::right, Align::right, Align::left});
  table.add({"", "processor time", "to malloc's", "  finds"});
  table.add({"the C library's malloc", duration_text(median(plain)), "1", ""});
  for (std::size_t i = 0; i < strengths.size(); ++i) {
    std::array<char, 32> ratio{};
    std::snprintf(ratio.data(), ratio.size(), "%.3g", median(guarded[i]) / median(plain));
    table.add(
        {strengths[i].name, duration_text(median(guarded[i])), ratio.data(), "  " + found[i]});
  }
  table.print();
  std::printf("\n");
  print_paragraph(
      "Median of " + std::to_string(rounds) + " runs of " + grouped(std::stod(requests[1])) +
      " requests without a mistake, from start to end. This program does little but allocate "
      "small blocks; compilers and servers pay less (`pagetrap bench guard`). What a sample of one "
      "block in 1000 does not find today it finds in some process of many.");
}

}  // namespace

bool tell_guard(const TourPace& pace) {
  std::printf("\n");
  print_paragraph(
      "A page that nobody may touch stops the program that touches it. With each block at the end "
      "of a page of its own, at an address that is not used again, it stops overflows and uses "
      "after free where they happen, in programs as they are: TRAP, PROTN, MAP2.");
  const std::string example = find_example();
  if (launch::find_shim("libpagetrap-guard.so").empty() || example.empty()) {
    print_paragraph("Left out: " +
                    std::string(example.empty() ? "examples/reply_cache is not built"
                                                : "there is no shim beside the command") +
                    ". It is built on x86-64 with -DPAGETRAP_TOOLS=ON -DPAGETRAP_EXAMPLES=ON.");
    return true;
  }
  try {
    const Server server(example);
    print_heading("Three mistakes");
    print_paragraph(
        "A small server's inside parses 20 000 requests and answers them from a cache "
        "(examples/reply_cache.cpp). An option puts a mistake in, as they are made:");
    std::printf("\n");
    const bool right = show_mistakes(server);
    print_heading("The strengths, and what they cost");
    show_strengths(server, pace);
    return right;
  } catch (const std::exception& error) {
    print_paragraph(std::string("It did not run: ") + error.what(), 2, 4, Style::bad);
    return false;
  }
}

}  // namespace pagetrap::tool
