#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string_view>

#include "harness/bench.hpp"
#include "harness/clock.hpp"
#include "harness/isolation.hpp"
#include "harness/results.hpp"

namespace pagetrap::bench {

namespace {

// Quick: twenty-odd questions in a minute, filling gigabytes included. Both arbitrary but for that.
constexpr Effort kQuick{.quick = true, .seconds = 0.6, .min_pairs = 7, .max_pairs = 41};
constexpr Effort kFull{.quick = false, .seconds = 8, .min_pairs = 25, .max_pairs = 401};
constexpr double kQuickLimitSeconds = 60;
constexpr double kFullLimitSeconds = 600;

bool choose_questions(const BenchOptions& options, std::vector<Question>& chosen) {
  for (const std::string& wanted : options.modules) {
    if (std::ranges::none_of(modules(), [&](const Module& m) { return m.name == wanted; })) {
      std::string known;
      for (const Module& module : modules()) known += " " + std::string(module.name);
      std::fprintf(stderr, "bench: no module is called \"%s\"; there are:%s\n", wanted.c_str(),
                   known.c_str());
      return false;
    }
  }
  for (const Module& module : modules()) {
    const auto& wanted = options.modules;
    if (!wanted.empty() && std::ranges::find(wanted, module.name) == wanted.end()) continue;
    for (Question& question : module.questions()) {
      if (question.id.starts_with(options.filter)) chosen.push_back(std::move(question));
    }
  }
  if (chosen.empty())
    std::fprintf(stderr, "bench: no id begins with \"%s\"\n", options.filter.c_str());
  return !chosen.empty();
}

void list(const std::vector<Question>& questions) {
  for (const Question& question : questions) {
    std::printf("%-28s %s\n", question.id.c_str(), question.asks.c_str());
  }
}

void show_progress(std::size_t done, std::size_t all, const std::string& id) {
  if (isatty(STDERR_FILENO) == 0) return;
  std::fprintf(stderr, "\r\033[K[%zu/%zu] %s", done, all, id.c_str());
  std::fflush(stderr);
}

void hide_progress() {
  if (isatty(STDERR_FILENO) != 0) std::fputs("\r\033[K", stderr);
}

/// Sorts an answer to where it belongs. Returns the new row, if it is one.
const Row* take(Results& results, Question question, Answer answer) {
  if (!answer.skipped.empty()) {
    results.skipped.push_back({question.id, answer.skipped});
    return nullptr;
  }
  if (!answer.failure.empty()) {
    results.failed.push_back({question.id, answer.failure});
    return nullptr;
  }
  results.break_even.insert(results.break_even.end(), answer.break_even.begin(),
                            answer.break_even.end());
  if (answer.pairs.empty()) {
    if (answer.break_even.empty()) results.failed.push_back({question.id, "measured nothing"});
    return nullptr;
  }
  if (!answer.ours.empty()) question.ours = answer.ours;
  if (!answer.rival.empty()) question.rival = answer.rival;
  results.rows.push_back({std::move(question), summarize(answer.pairs),
                          std::move(answer.parameters), std::move(answer.scheduling)});
  return &results.rows.back();
}

bool write_json(const Results& results, const std::string& path) {
  const std::string document = to_json(results);
  if (path == "-") return std::fputs(document.c_str(), stdout) >= 0;
  std::ofstream out(path);
  out << document << std::flush;
  if (!out) std::fprintf(stderr, "bench: cannot write %s\n", path.c_str());
  return out.good();
}

}  // namespace

int run(const BenchOptions& options) {
  std::vector<Question> questions;
  if (!choose_questions(options, questions)) return 2;
  if (options.list) {
    list(questions);
    return 0;
  }
  const bool for_people = options.json_path != "-";
  const Effort& effort = options.quick ? kQuick : kFull;
  const double begin = now_ns();
  Results results;
  results.machine = describe_machine();
  results.quick = options.quick;
  if (for_people) std::printf("%s\n", describe(results.machine).c_str());
  for (std::size_t i = 0; i < questions.size(); ++i) {
    show_progress(i, questions.size(), questions[i].id);
    std::fflush(stdout);  // or the child would have a copy of what is unwritten
    Answer answer = measure_in_child(questions[i], effort,
                                     options.quick ? kQuickLimitSeconds : kFullLimitSeconds);
    hide_progress();
    const Row* row = take(results, questions[i], std::move(answer));
    if (row != nullptr && for_people) {
      if (results.rows.size() == 1) std::fputs(table_header().c_str(), stdout);
      std::fputs(table_line(*row).c_str(), stdout);
    }
  }
  if (for_people) {
    std::printf("%s%s\n", break_even_table(results.break_even).c_str(), remarks(results).c_str());
    if (!results.rows.empty())
      std::printf("%zu rows in %.0f s\n", results.rows.size(), (now_ns() - begin) / 1e9);
    std::fflush(stdout);
  }
  if (!options.json_path.empty() && !write_json(results, options.json_path)) return 1;
  return results.failed.empty() ? 0 : 1;
}

}  // namespace pagetrap::bench
