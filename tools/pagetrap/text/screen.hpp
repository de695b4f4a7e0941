// Standard output for people: headings, wrapped paragraphs, tables, colours.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace pagetrap::tool {

/// Columns that text is wrapped to: a terminal's usual width and a bit, since tables need it.
inline constexpr std::size_t kScreenWidth = 100;

enum class Style { plain, bold, good, bad, faint };

/// `text` in `style`: escape sequences on a terminal, nothing otherwise or with NO_COLOR set.
std::string styled(std::string_view text, Style style);

/// Names are whatever a program wrote: what would control a terminal is shown as \xNN.
std::string shown(const std::string& name);

void print_heading(std::string_view text);

/// Wrapped at kScreenWidth; the first line begins after `indent` spaces, the others after `hang`.
void print_paragraph(std::string_view text, std::size_t indent = 0, std::size_t hang = 0,
                     Style style = Style::plain);

/// One cell of a table.
struct Cell {
  Cell(std::string cell_text, Style cell_style = Style::plain)
      : text(std::move(cell_text)), style(cell_style) {}
  Cell(const char* cell_text) : text(cell_text) {}
  std::string text;
  Style style = Style::plain;
};

enum class Align { left, right };

/// Columns as wide as their widest cell; the last one is wrapped if it is aligned left.
class Table {
 public:
  explicit Table(std::vector<Align> columns) : columns_(std::move(columns)) {}
  void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  void print() const;

 private:
  void print_row(const std::vector<Cell>& row, const std::vector<std::size_t>& widths,
                 std::size_t before_last) const;

  std::vector<Align> columns_;
  std::vector<std::vector<Cell>> rows_;
};

/// 1234.5 -> "1.23 us": three digits and the unit that suits.
std::string duration_text(double nanoseconds);
/// 12345678 -> "12 345 678".
std::string grouped(double number);
/// 17179869184 -> "16.0 GiB".
std::string size_text(double bytes);

}  // namespace pagetrap::tool
