#include "screen.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace pagetrap::tool {
namespace {

bool use_colours() {
  static const bool use = [] {
    const char* const no_color = std::getenv("NO_COLOR");  // no-color.org: set and not empty
    const char* const terminal = std::getenv("TERM");
    return isatty(STDOUT_FILENO) == 1 && (no_color == nullptr || *no_color == '\0') &&
           terminal != nullptr && std::string_view(terminal) != "dumb";
  }();
  return use;
}

/// `text` in lines of at most `width` characters, broken at spaces; longer words stay whole.
std::vector<std::string> wrapped(std::string_view text, std::size_t width) {
  std::vector<std::string> lines(1);
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string_view word = text.substr(at, end - at);
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > width) {
      lines.emplace_back();
    }
    if (!lines.back().empty()) lines.back() += ' ';
    lines.back() += word;
    at = std::min(text.find_first_not_of(' ', end), text.size());
  }
  return lines;
}

constexpr std::size_t kMargin = 2;

/// A cell wrapped to the screen, its further lines below its first, which begins at `indent`.
std::string hanging(const Cell& cell, std::size_t indent) {
  constexpr std::size_t kLeast = 20;
  const std::size_t room = std::max(kLeast, kScreenWidth - std::min(kScreenWidth, indent));
  std::string text;
  for (const std::string& line : wrapped(cell.text, room)) {
    if (!text.empty()) text += "\n" + std::string(indent, ' ');
    text += styled(line, cell.style);
  }
  return text;
}

std::string number_text(double number, int decimals) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", decimals, number);
  return buffer.data();
}

}  // namespace

std::string styled(std::string_view text, Style style) {
  if (!use_colours() || style == Style::plain) return std::string(text);
  const char* code = "";
  switch (style) {
    case Style::plain:
      break;
    case Style::bold:
      code = "1";
      break;
    case Style::good:
      code = "32";
      break;
    case Style::bad:
      code = "31";
      break;
    case Style::faint:
      code = "2";
      break;
  }
  return "\033[" + std::string(code) + "m" + std::string(text) + "\033[0m";
}

void print_heading(std::string_view text) {
  std::printf("\n%s\n", styled(text, Style::bold).c_str());
}

void print_paragraph(std::string_view text, std::size_t indent, std::size_t hang, Style style) {
  std::size_t margin = indent;
  for (const std::string& line : wrapped(text, kScreenWidth - std::max(indent, hang))) {
    std::printf("%*s%s\n", static_cast<int>(margin), "", styled(line, style).c_str());
    margin = hang;
  }
}

void Table::print() const {
  std::vector<std::size_t> widths(columns_.size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].text.size());
    }
  }
  std::size_t before_last = kMargin;
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) before_last += widths[i] + kMargin;
  for (const auto& row : rows_) print_row(row, widths, before_last);
}

void Table::print_row(const std::vector<Cell>& row, const std::vector<std::size_t>& widths,
                      std::size_t before_last) const {
  std::string line;
  std::size_t owed = kMargin;  // spaces that are written when something follows them
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::size_t fill = widths[i] - row[i].text.size();
    if (columns_[i] == Align::right) owed += fill;
    if (!row[i].text.empty()) {
      line.append(owed, ' ');
      owed = 0;
      const bool last = i + 1 == columns_.size() && columns_[i] == Align::left;
      line += last ? hanging(row[i], before_last) : styled(row[i].text, row[i].style);
    }
    if (columns_[i] == Align::left) owed += fill;
    owed += kMargin;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  std::printf("%s\n", line.c_str());
}

std::string shown(const std::string& name) {
  std::string text;
  for (const char letter : name) {
    const auto byte = static_cast<unsigned char>(letter);
    char hex[8];
    std::snprintf(hex, sizeof hex, "\\x%02x", byte);
    text += byte >= ' ' && byte < 0x7f && byte != '\\' ? std::string(1, letter) : hex;
  }
  return text;
}

std::string duration_text(double nanoseconds) {
  if (!std::isfinite(nanoseconds)) return "-";
  struct Unit {
    double in_nanoseconds;
    const char* name;
  };
  constexpr std::array<Unit, 4> kUnits{{{1e9, " s"}, {1e6, " ms"}, {1e3, " us"}, {1, " ns"}}};
  for (const Unit& unit : kUnits) {
    const double amount = nanoseconds / unit.in_nanoseconds;
    if (amount < 0.9995 && unit.in_nanoseconds > 1) continue;
    return number_text(amount, amount < 9.995 ? 2 : amount < 99.95 ? 1 : 0) + unit.name;
  }
  return "0 ns";
}

std::string grouped(double number) {
  const std::string digits = number_text(std::abs(number), 0);
  std::string text = number < 0 ? "-" : "";
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ' ';
    text += digits[i];
  }
  return text;
}

std::string size_text(double bytes) {
  constexpr std::array<const char*, 5> kUnits{" B", " KiB", " MiB", " GiB", " TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return number_text(bytes, unit == 0 || bytes >= 100 ? 0 : 1) + kUnits[unit];
}

}  // namespace pagetrap::tool
