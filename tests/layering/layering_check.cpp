// Reads every C++ file of the tree and reports what breaks the table in arrows.txt: an #include
// against the arrows, an #if where none may be, a file that is too long.
//
// Usage: layering_check ROOT TABLE            exit 1 if anything is reported
//        layering_check ROOT TABLE --marked   exit 1 unless exactly the lines that contain "// BAD"
//                                             are reported (the test of this program)
//
// It reads lines, not C++: a directive inside a raw string or inside a block comment that opens in
// the middle of a line is taken for a real one. Neither has come up; both would fail loudly.

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct Table {
  std::map<std::string, std::set<std::string>> rooms;
  std::map<std::string, std::set<std::string>> areas;
  std::vector<std::string> conditional;
  std::vector<std::string> skipped;
  std::size_t file_limit = 0;
  std::size_t public_header_limit = 0;
};

Table read_table(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error(path + ": cannot be read");
  Table table;
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string kind;
    std::string name;
    std::string arrow;
    if (!(words >> kind)) continue;
    words >> name;
    if (kind == "conditional") {
      table.conditional.push_back(name);
    } else if (kind == "skip") {
      table.skipped.push_back(name);
    } else if (kind == "limit" && name == "file") {
      words >> table.file_limit;
    } else if (kind == "limit" && name == "public-header") {
      words >> table.public_header_limit;
    } else if ((kind == "room" || kind == "area") && words >> arrow && arrow == "->") {
      auto& permitted = (kind == "room" ? table.rooms : table.areas)[name];
      for (std::string other; words >> other;) permitted.insert(other);
    } else {
      throw std::runtime_error(path + ":" + std::to_string(number) + ": not understood: " + line);
    }
  }
  return table;
}

/// Where a file stands in the tree.
struct Place {
  enum class Kind { public_header, room_source, area, elsewhere };
  Kind kind = Kind::elsewhere;
  std::string name;  // of the room or area
};

Place place_of(const fs::path& relative, const Table& table) {
  std::vector<std::string> parts;
  for (const auto& part : relative) parts.push_back(part.string());
  if (parts.size() >= 4 && parts[0] == "include" && parts[1] == "pagetrap") {
    return {Place::Kind::public_header, parts[2]};
  }
  if (parts.size() >= 3 && parts[0] == "src") return {Place::Kind::room_source, parts[1]};
  if (parts.size() >= 3 && table.areas.contains(parts[0] + "/" + parts[1])) {
    return {Place::Kind::area, parts[0] + "/" + parts[1]};
  }
  if (parts.size() >= 2 && parts[0] != "include" && parts[0] != "src") {
    return {Place::Kind::area, parts[0]};
  }
  return {};
}

bool is_within(const std::string& file, const std::string& file_or_folder) {
  return file == file_or_folder || file.starts_with(file_or_folder + "/");
}

/// The directive of a line ("include", "if", ...) and what follows it; nothing for other lines.
struct Directive {
  std::string_view name;
  std::string_view rest;
};

std::string_view trimmed_left(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(" \t"), text.size()));
}

std::optional<Directive> directive_of(std::string_view line) {
  line = trimmed_left(line);
  if (!line.starts_with('#')) return std::nullopt;
  line = trimmed_left(line.substr(1));
  const auto length = std::min(line.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), line.size());
  return Directive{line.substr(0, length), trimmed_left(line.substr(length))};
}

class Checker {
 public:
  Checker(fs::path root, Table table) : root_(std::move(root)), table_(std::move(table)) {}

  struct Finding {
    std::string file;
    std::size_t line;
    std::string rule;
  };

  const std::vector<Finding>& findings() const { return findings_; }
  const std::set<std::pair<std::string, std::size_t>>& marked() const { return marked_; }
  std::size_t files_read() const { return files_read_; }

  void check_tree() {
    for (const char* top : {"include", "src"}) check_below(top);
    for (const auto& [area, permitted] : table_.areas) {
      if (area.find('/') == std::string::npos) check_below(area);  // else with the one around it
    }
  }

 private:
  void check_below(const std::string& top) {
    if (!fs::exists(root_ / top)) return;
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(root_ / top)) {
      static const std::set<std::string> kExtensions{".hpp", ".cpp", ".h", ".c", ".cc", ".inc"};
      if (entry.is_regular_file() && kExtensions.contains(entry.path().extension().string())) {
        files.push_back(entry.path().lexically_relative(root_));
      }
    }
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
      const bool skipped = std::ranges::any_of(
          table_.skipped, [&](const auto& place) { return is_within(file.string(), place); });
      if (!skipped) check_file(file);
    }
  }

  void check_file(const fs::path& file) {
    ++files_read_;
    const std::string name = file.string();
    const Place place = place_of(file, table_);
    const bool is_room =
        place.kind == Place::Kind::public_header || place.kind == Place::Kind::room_source;
    const bool has_rules = place.kind == Place::Kind::area || table_.rooms.contains(place.name);
    if (!is_room && place.kind != Place::Kind::area) {
      report(name, 1, "stands in no room: not in src/ROOM/ or include/pagetrap/ROOM/");
    } else if (!has_rules) {
      report(name, 1, "room '" + place.name + "' is not in the table");
    }
    const bool may_be_conditional = std::ranges::any_of(
        table_.conditional, [&](const auto& where) { return is_within(name, where); });
    const std::size_t limit = place.kind == Place::Kind::public_header
                                  ? std::min(table_.file_limit, table_.public_header_limit)
                                  : table_.file_limit;

    std::ifstream in(root_ / file);
    if (!in) throw std::runtime_error(name + ": cannot be read");
    bool in_comment = false;
    std::string line;
    std::size_t number = 0;
    while (std::getline(in, line)) {
      ++number;
      if (line.find("// BAD") != std::string::npos) marked_.emplace(name, number);
      if (number == limit + 1) {
        report(name, number, "the file has more than " + std::to_string(limit) + " lines");
      }
      if (!in_comment && trimmed_left(line).starts_with("/*")) in_comment = true;
      if (in_comment) {
        in_comment = line.find("*/") == std::string::npos;
        continue;
      }
      const auto directive = directive_of(line);
      if (!directive) continue;
      if (directive->name == "include" || directive->name == "include_next" ||
          directive->name == "import") {
        if (has_rules) check_include(file, place, number, directive->rest);
      } else if ((directive->name.starts_with("if") || directive->name.starts_with("elif")) &&
                 !may_be_conditional) {
        report(name, number, "#" + std::string(directive->name) + " may not stand here");
      }
    }
  }

  void check_include(const fs::path& file, const Place& from, std::size_t number,
                     std::string_view rest) {
    if (from.kind == Place::Kind::area && table_.areas.at(from.name).contains("anything")) return;
    const char close = rest.starts_with('<') ? '>' : '"';
    const bool opens = rest.starts_with('<') || rest.starts_with('"');
    const auto end = opens ? rest.find(close, 1) : std::string_view::npos;
    if (end == std::string_view::npos) {
      report(file.string(), number, "an include must name its file in <> or \"\"");
      return;
    }
    const fs::path included(rest.substr(1, end - 1));
    const bool quoted = close == '"';
    const auto target = resolved(file, from, included, quoted);
    if (!target) {
      if (quoted || included.begin()->string() == "pagetrap") {
        report(file.string(), number, included.string() + " is no file of ours");
      }
      return;  // <...> from somewhere else: the system, a library
    }
    if (const std::string broken = broken_arrow(from, place_of(*target, table_)); !broken.empty()) {
      report(file.string(), number, broken + " (" + target->string() + ")");
    }
  }

  /// The file of ours that an include names, relative to the root.
  std::optional<fs::path> resolved(const fs::path& file, const Place& from,
                                   const fs::path& included, bool quoted) const {
    std::vector<fs::path> folders;
    if (quoted) {
      folders.push_back(file.parent_path());
      if (from.kind == Place::Kind::area) {  // tools/pagetrap, tools
        auto second = std::next(file.begin());
        folders.push_back(*file.begin() / *second);
        folders.push_back(*file.begin());
      }
    }
    // Also for <>, since our sources are compiled with -I src.
    folders.emplace_back("src");
    folders.emplace_back("include");
    for (const auto& folder : folders) {
      const fs::path candidate = (folder / included).lexically_normal();
      if (fs::is_regular_file(root_ / candidate)) return candidate;
    }
    return std::nullopt;
  }

  /// What is wrong with an arrow, or an empty string.
  std::string broken_arrow(const Place& from, const Place& to) const {
    const std::string against = from.name + " may not include ";
    if (from.kind == Place::Kind::area) {
      const auto& permitted = table_.areas.at(from.name);
      if (to.kind == Place::Kind::public_header && permitted.contains("public")) return {};
      if (to.kind == Place::Kind::room_source && permitted.contains(to.name)) return {};
      if (to.kind == Place::Kind::area && (to.name == from.name || permitted.contains(to.name))) {
        return {};
      }
      return against +
             (to.kind == Place::Kind::room_source ? "private headers of " + to.name : to.name);
    }
    if (to.kind == Place::Kind::area || to.kind == Place::Kind::elsewhere) {
      return against + "what stands in no room";
    }
    if (from.kind == Place::Kind::public_header && to.kind == Place::Kind::room_source) {
      return "a public header may not include a private one";
    }
    if (to.name != from.name && !table_.rooms.at(from.name).contains(to.name)) {
      return against + to.name;
    }
    return {};
  }

  void report(const std::string& file, std::size_t line, const std::string& rule) {
    findings_.push_back({file, line, rule});
  }

  fs::path root_;
  Table table_;
  std::vector<Finding> findings_;
  std::set<std::pair<std::string, std::size_t>> marked_;
  std::size_t files_read_ = 0;
};

/// Prints what the marks and the findings do not agree on; true if they do.
bool agrees_with_marks(const Checker& checker) {
  bool agrees = !checker.marked().empty();
  std::set<std::pair<std::string, std::size_t>> found;
  for (const auto& finding : checker.findings()) {
    found.emplace(finding.file, finding.line);
    if (!checker.marked().contains({finding.file, finding.line})) {
      std::printf("%s:%zu: reported, not marked: %s\n", finding.file.c_str(), finding.line,
                  finding.rule.c_str());
      agrees = false;
    }
  }
  for (const auto& [file, line] : checker.marked()) {
    if (!found.contains({file, line})) {
      std::printf("%s:%zu: marked, not reported\n", file.c_str(), line);
      agrees = false;
    }
  }
  std::printf("%zu marked lines\n", checker.marked().size());
  return agrees;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3 || argc > 4 || (argc == 4 && std::string_view(argv[3]) != "--marked")) {
    std::fputs("usage: layering_check ROOT TABLE [--marked]\n", stderr);
    return 2;
  }
  Checker checker(argv[1], read_table(argv[2]));
  checker.check_tree();
  if (argc == 4) return agrees_with_marks(checker) ? 0 : 1;
  for (const auto& finding : checker.findings()) {
    std::printf("%s:%zu: %s\n", finding.file.c_str(), finding.line, finding.rule.c_str());
  }
  std::printf("%zu files read, %zu findings; the rules are in %s\n", checker.files_read(),
              checker.findings().size(), argv[2]);
  return checker.findings().empty() && checker.files_read() > 0 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "layering_check: %s\n", error.what());
  return 2;
}
