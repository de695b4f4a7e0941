#include "print.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

#include "../text/screen.hpp"
#include "replay.hpp"

namespace pagetrap::tool {
namespace {

using What = PageEvent::What;

std::string nanoseconds(std::uint64_t amount) { return duration_text(static_cast<double>(amount)); }
std::string number(std::uint64_t amount) { return grouped(static_cast<double>(amount)); }

std::string percent(const std::optional<double>& share) {
  if (!share) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.1f%%", 100 * *share);
  return text;
}

void add_percentiles(Table& table, const char* what, const Distribution& durations) {
  if (durations.count() == 0) {
    table.add({what, "0"});
    return;
  }
  table.add({what, number(durations.count()), nanoseconds(durations.percentile(50)),
             nanoseconds(durations.percentile(90)), nanoseconds(durations.percentile(99)),
             nanoseconds(durations.longest()), nanoseconds(durations.total())});
}

std::string bar(std::size_t count, std::size_t most) {
  constexpr std::size_t kWidth = 16;
  if (count == 0) return "";
  return std::string(std::max<std::size_t>(1, count * kWidth / most), '#');
}

void print_histogram(const Summary& summary) {
  const std::array<const Distribution*, 3> kinds{&summary.flips, &summary.traps, &summary.waits};
  const auto bounds = bin_bounds(kinds);
  if (bounds.empty()) return;
  std::array<std::size_t, 3> most{};
  for (std::size_t k = 0; k < kinds.size(); ++k)
    for (std::size_t i = 0; i + 1 < bounds.size(); ++i)
      most[k] = std::max(most[k], kinds[k]->between(bounds[i], bounds[i + 1]));
  Table table({Align::right, Align::right, Align::left, Align::right, Align::left, Align::right,
               Align::left});
  table.add({{"from", Style::faint},
             {"flips", Style::faint},
             "",
             {"traps", Style::faint},
             "",
             {"waits", Style::faint}});
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
    std::vector<Cell> row{nanoseconds(bounds[i])};
    for (std::size_t k = 0; k < kinds.size(); ++k) {
      const std::size_t count = kinds[k]->between(bounds[i], bounds[i + 1]);
      row.push_back(count == 0 ? std::string() : number(count));
      row.push_back(bar(count, most[k]));
    }
    table.add(std::move(row));
  }
  table.print();
}

/// The letters of a map in their colours, a run at a time.
std::string coloured(const std::string& letters) {
  const auto style = [](char letter) {
    switch (letter) {
      case '#':
        return Style::bold;
      case '!':
        return Style::bad;
      case '.':
        return Style::good;
      default:
        return Style::plain;
    }
  };
  std::string text;
  for (std::size_t begin = 0; begin < letters.size();) {
    std::size_t end = begin;
    while (end < letters.size() && style(letters[end]) == style(letters[begin])) ++end;
    text += styled(letters.substr(begin, end - begin), style(letters[begin]));
    begin = end;
  }
  return text;
}

constexpr std::size_t kColumns = 96;
constexpr std::size_t kRows = 6;

void print_frame(const Replay& replay, std::uint64_t since_flip) {
  const auto counts = replay.counts();
  const auto of = [&](PageState state) { return number(counts[static_cast<std::size_t>(state)]); };
  std::printf("\n  %s\n",
              styled(nanoseconds(since_flip) + " after the flip: " + of(PageState::unscanned) +
                         " closed, " + of(PageState::opening) + " being scanned, " +
                         of(PageState::open) + " open, " + of(PageState::trapped) +
                         " opened by traps, " + of(PageState::pinned) + " pinned",
                     Style::faint)
                  .c_str());
  const std::string letters = draw(replay.states(), kColumns * kRows);
  for (std::size_t at = 0; at < letters.size(); at += kColumns) {
    std::string row = letters.substr(at, kColumns);
    row.erase(row.find_last_not_of(' ') + 1);
    std::printf("%s\n", row.empty() ? "" : ("  " + coloured(row)).c_str());
  }
}

}  // namespace

void print_cycles(const HeapTrace& heap, Span watched) {
  constexpr std::size_t kMost = 24;
  const std::size_t first = heap.cycles.size() > kMost ? heap.cycles.size() - kMost : 0;
  Table table({Align::right, Align::left, Align::right, Align::right, Align::right, Align::right,
               Align::right, Align::right, Align::right, Align::right});
  table.add({"cycle", "", "at", "pause", "to stop", "took", "traps", "scanned", "copied", "clean"});
  for (std::size_t i = first; i < heap.cycles.size(); ++i) {
    const CollectionCycle& cycle = heap.cycles[i];
    const bool paused = cycle.resumed_at != 0;
    const bool ended = cycle.ended_at != 0;
    const std::string unknown = "-";
    table.add({std::to_string(cycle.number), cycle.full ? "full" : "minor",
               nanoseconds(cycle.flipped_at - watched.begin),
               paused ? nanoseconds(cycle.pause_ns) : unknown,
               paused ? nanoseconds(cycle.stop_ns) : unknown,
               ended ? nanoseconds(cycle.total_ns()) : unknown,
               ended ? number(cycle.traps) : unknown, ended ? number(cycle.scanned_pages) : unknown,
               ended ? number(cycle.copied_pages) : unknown,
               cycle.has_pages() ? number(cycle.count(What::clean)) : unknown});
  }
  table.print();
  if (first != 0)
    std::printf("  (the last %zu of %zu; --json has all)\n", kMost, heap.cycles.size());
}

void print_pauses(const Summary& summary) {
  Table table({Align::left, Align::right, Align::right, Align::right, Align::right, Align::right,
               Align::right});
  table.add({"", "count", "median", "90%", "99%", "longest", "together"});
  add_percentiles(table, "flips: all threads", summary.flips);
  add_percentiles(table, "traps: one thread", summary.traps);
  add_percentiles(table, "waits: one thread", summary.waits);
  table.print();
  std::printf("\n");
  print_histogram(summary);
}

void print_utilisation(const Summary& summary) {
  constexpr double kWidth = 50;
  Table table({Align::right, Align::right, Align::right, Align::left});
  table.add(
      {{"window", Style::faint},
       {"flips alone", Style::faint},
       {"worst thread", Style::faint},
       {"0%" + std::string(static_cast<std::size_t>(kWidth) - 6, '.') + "100%", Style::faint}});
  for (const UtilisationRow& row : summary.utilisation) {
    if (!row.worst) continue;  // the trace is shorter
    const auto worst = static_cast<std::size_t>(kWidth * *row.worst);
    const auto flips = static_cast<std::size_t>(kWidth * *row.flips);
    table.add({nanoseconds(row.window_ns), percent(row.flips), percent(row.worst),
               std::string(worst, '#') + std::string(flips - worst, '-')});
  }
  table.print();
}

void print_replay(const CollectionCycle& cycle, std::size_t frames) {
  Replay replay(cycle);
  if (replay.pages() == 0) {
    print_paragraph("Cycle " + std::to_string(cycle.number) +
                        " closed no page: nobody had written to any since the last one.",
                    2, 2);
    return;
  }
  const std::uint64_t visited = cycle.count(What::visited);
  print_paragraph(
      "Cycle " + std::to_string(cycle.number) + (cycle.full ? ", full" : ", minor") +
          (cycle.lifted ? ": the flip closed every page of the old space at once. "
                        : ": the flip closed the few pages that had been written. ") +
          "A letter is what most of " + number(pages_per_cell(replay.pages(), kColumns * kRows)) +
          " pages are: # closed, o being scanned, . open, ! opened by a trap; P: one is pinned. "
          "What "
          "stays closed is free: it was dead, or has moved." +
          (visited == 0 ? std::string()
                        : " " + number(visited) + " pinned pages of the nursery are not shown."),
      2, 2);
  for (const std::uint64_t instant : instants(cycle, frames)) {
    replay.advance(instant);
    print_frame(replay, instant - std::min(instant, cycle.flipped_at));
  }
}

}  // namespace pagetrap::tool
