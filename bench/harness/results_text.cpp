#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "harness/results.hpp"

namespace pagetrap::bench {

namespace {

constexpr int kIdWidth = 28;
constexpr int kNumberWidth = 11;

/// `words` in a column of `width`, at least two spaces before the next one.
std::string left(const std::string& words, int width) {
  const auto wanted = static_cast<std::size_t>(width);
  return words + std::string(words.size() + 2 > wanted ? 2 : wanted - words.size(), ' ');
}

std::string right(const std::string& words, int width) {
  const auto wanted = static_cast<std::size_t>(width);
  return std::string(words.size() < wanted ? wanted - words.size() : 0, ' ') + words;
}

/// Three significant digits, never an exponent.
std::string digits(double value) {
  const double size = std::fabs(value);
  int decimals = 0;
  if (size > 0 && size < 100) {
    decimals = std::min(6, 2 - static_cast<int>(std::floor(std::log10(size))));
  }
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", decimals, value);
  return buffer.data();
}

/// 12345 -> "12,345".
std::string grouped(double value) {
  std::string plain = digits(value);
  if (plain.find('.') != std::string::npos) return plain;
  for (int place = static_cast<int>(plain.size()) - 3; place > 0; place -= 3) {
    plain.insert(static_cast<std::size_t>(place), ",");
  }
  return plain;
}

}  // namespace

std::string quantity(double value, const std::string& unit) {
  const double size = std::fabs(value);
  if (unit == "bytes" && size >= 1e6) return digits(value / 1e6) + " MB";
  if (unit != "ns") return digits(value) + " " + unit;
  if (size >= 1e9) return digits(value / 1e9) + " s";
  if (size >= 1e6) return digits(value / 1e6) + " ms";
  if (size >= 1e3) return digits(value / 1e3) + " us";
  return digits(value) + " ns";
}

std::string describe(const Machine& machine) {
  std::string text = machine.cpu + ", " + std::to_string(machine.cpus) + " CPUs";
  if (machine.hypervisor) text += " (a virtual machine)";
  text += ", " + digits(machine.memory_bytes / (1 << 30)) + " GiB, Linux " + machine.kernel;
  text += ", huge pages " + machine.huge_pages;
  text += machine.protection_keys ? "" : ", no protection keys";
  text += machine.root ? ", root" : ", ordinary user";
  return text + "\n";
}

std::string table_header() {
  return left("question", kIdWidth) + right("ours", kNumberWidth) + right("rival", kNumberWidth) +
         right("ratio", 9) + "  " + left("[10%..90%]", 19) + left("target", 9) + "\n";
}

std::string table_line(const Row& row) {
  const Question& question = row.question;
  const Summary& summary = row.summary;
  std::string verdict;
  if (question.target > 0) {
    verdict = left("<= " + digits(question.target), 10) + (row.met() ? "met" : "MISSED");
  }
  const std::string range =
      "[" + digits(summary.ratio_low) + " .. " + digits(summary.ratio_high) + "]";
  return left(question.id, kIdWidth) +
         right(quantity(summary.ours_median, question.unit), kNumberWidth) +
         right(quantity(summary.rival_median, question.unit), kNumberWidth) +
         right(digits(summary.ratio), 9) + "  " + left(range, 19) + verdict + "\n    " +
         question.ours + "  /  " + question.rival + "\n";
}

std::string break_even_table(const std::vector<BreakEven>& rows) {
  if (rows.empty()) return {};
  std::string text =
      "\nShould we use virtual memory? More accesses per fault than this: the fault is cheaper.\n";
  text += left("application", 26) + left("fault", 38) + right("cost", 9) + "  " +
          left("instruction", 34) + right("cost", 9) + right("break-even", 13) + "\n";
  for (const BreakEven& row : rows) {
    text += left(row.application, 26) + left(row.fault_mechanism, 38) +
            right(quantity(row.fault_ns, "ns"), 9) + "  " + left(row.instruction, 34);
    if (row.accesses_per_fault <= 0) {
      text += right("0", 9) + right("free: never", 13) + "\n";
      continue;
    }
    text +=
        right(quantity(row.instruction_ns, "ns"), 9) + right(grouped(row.accesses_per_fault), 13);
    text +=
        "  [" + grouped(row.low) + " .. " + (row.high > 0 ? grouped(row.high) : "never") + "]\n";
  }
  return text;
}

std::string remarks(const Results& results) {
  std::string text;
  for (const Row& row : results.rows) {
    if (row.met()) continue;
    text += "missed   " + row.question.id;
    text += row.question.bound.empty() ? "\n" : ": " + row.question.bound + "\n";
  }
  for (const Missing& missing : results.skipped) {
    text += "skipped  " + missing.id + ": " + missing.reason + "\n";
  }
  for (const Missing& missing : results.failed) {
    text += "FAILED   " + missing.id + ": " + missing.reason + "\n";
  }
  return text.empty() ? text : "\n" + text;
}

}  // namespace pagetrap::bench
