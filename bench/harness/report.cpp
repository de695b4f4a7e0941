#include "harness/report.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace pagetrap::bench {

namespace {

std::string text_of(double value) {
  std::array<char, 40> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.12g", value);
  return buffer.data();
}

std::vector<std::string> fields_of(std::string_view line) {
  std::vector<std::string> fields;
  while (true) {
    const std::size_t tab = line.find('\t');
    fields.emplace_back(line.substr(0, tab));
    if (tab == std::string_view::npos) return fields;
    line.remove_prefix(tab + 1);
  }
}

double number_of(const std::string& field) { return std::strtod(field.c_str(), nullptr); }

BreakEven break_even_of(const std::vector<std::string>& fields) {
  BreakEven row;
  row.application = fields[1];
  row.fault_mechanism = fields[2];
  row.fault_ns = number_of(fields[3]);
  row.instruction = fields[4];
  row.instruction_ns = number_of(fields[5]);
  row.accesses_per_fault = number_of(fields[6]);
  row.low = number_of(fields[7]);
  row.high = number_of(fields[8]);
  return row;
}

void take_line(const std::vector<std::string>& fields, Answer& answer) {
  const std::string& kind = fields[0];
  const std::size_t count = fields.size();
  if (kind == "pair" && count == 3) {
    answer.pairs.push_back({number_of(fields[1]), number_of(fields[2])});
  } else if ((kind == "number" || kind == "text") && count == 3) {
    answer.parameters.push_back({fields[1], fields[2], kind == "number"});
  } else if (kind == "break-even" && count == 9) {
    answer.break_even.push_back(break_even_of(fields));
  } else if (kind == "ours" && count == 2) {
    answer.ours = fields[1];
  } else if (kind == "rival" && count == 2) {
    answer.rival = fields[1];
  } else if (kind == "scheduling" && count == 2) {
    answer.scheduling = fields[1];
  } else if (kind == "skip" && count == 2) {
    answer.skipped = fields[1];
    answer.finished = true;
  } else if (kind == "fail" && count == 2) {
    if (answer.failure.empty()) answer.failure = fields[1];  // later ones follow from the first
  } else if (kind == "end") {
    answer.finished = true;
  }
}

}  // namespace

void Report::line(std::string_view kind, const std::vector<std::string>& fields) {
  std::string text(kind);
  for (std::string field : fields) {
    std::replace_if(
        field.begin(), field.end(), [](char c) { return c == '\t' || c == '\n'; }, ' ');
    text += '\t' + field;
  }
  text += '\n';
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = ::write(pipe_, rest.data(), rest.size());
    if (written <= 0) ::_exit(3);  // the reader is gone, and so is the reason to go on
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
}

void Report::pair(double ours, double rival) {
  line("pair", {text_of(ours), text_of(rival)});
  ++pairs_;
}

void Report::parameter(std::string_view name, double value) {
  line("number", {std::string(name), text_of(value)});
}

void Report::parameter(std::string_view name, std::string_view value) {
  line("text", {std::string(name), std::string(value)});
}

void Report::break_even(const BreakEven& row) {
  line("break-even", {row.application, row.fault_mechanism, text_of(row.fault_ns), row.instruction,
                      text_of(row.instruction_ns), text_of(row.accesses_per_fault),
                      text_of(row.low), text_of(row.high)});
}

void Report::ours_is(std::string_view name) { line("ours", {std::string(name)}); }
void Report::rival_is(std::string_view name) { line("rival", {std::string(name)}); }
void Report::scheduling(std::string_view how) { line("scheduling", {std::string(how)}); }

// _exit, not exit: the process is a copy of its parent, whose exit handlers and buffers are not its
// to run, and it may hold gigabytes that need no orderly end.
void Report::skip(std::string_view reason) {
  line("skip", {std::string(reason)});
  ::_exit(0);
}

void Report::fail(std::string_view what) {
  line("fail", {std::string(what)});
  ::_exit(1);
}

void Report::finish() {
  line("end", {});
  ::_exit(0);
}

Answer parse_answer(std::string_view text) {
  Answer answer;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) break;  // cut off in the middle: the writer died
    take_line(fields_of(text.substr(0, end)), answer);
    text.remove_prefix(end + 1);
  }
  return answer;
}

}  // namespace pagetrap::bench
