// GCBench and binary-trees, in turns.
#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

#include "../../text/screen.hpp"
#include "sections.hpp"
#include "sides.hpp"

namespace pagetrap::tool {
namespace {

constexpr std::array<GcSide, 3> kSides{GcSide::ours, GcSide::malloc, GcSide::boehm};

/// Of each side the faster of two runs, and the pauses of both.
struct Compared {
  const char* name;
  std::array<SideFigures, kSides.size()> sides;

  [[nodiscard]] const SideFigures& ours() const { return sides[0]; }
  [[nodiscard]] const SideFigures& malloc() const { return sides[1]; }
  [[nodiscard]] const SideFigures& boehm() const { return sides[2]; }
  [[nodiscard]] bool right() const {
    return std::all_of(sides.begin(), sides.end(),
                       [](const SideFigures& side) { return side.right || !side.there; });
  }
};

Compared compare(const char* name, GcProgram program, bool quick) {
  Compared compared{name, {}};
  for (std::size_t i = 0; i < kSides.size(); ++i)
    compared.sides[i] = run_side(kSides[i], program, quick);
  for (std::size_t i = 0; i < kSides.size(); ++i) {
    const SideFigures again = run_side(kSides[i], program, quick);
    SideFigures& side = compared.sides[i];
    side.seconds = std::min(side.seconds, again.seconds);
    side.right = side.right && again.right;
    side.pauses.add(again.pauses);
  }
  return compared;
}

std::string ratio(double ours, double theirs) {
  if (theirs <= 0) return "-";
  char text[32];
  std::snprintf(text, sizeof text, ours / theirs < 0.0995 ? "%.4f" : "%.2f", ours / theirs);
  return text;
}

std::string time_of(const SideFigures& side) {
  return side.there ? duration_text(side.seconds * 1e9) : "-";
}

void print_times(const std::array<Compared, 2>& programs) {
  const auto faint = [](const char* text) { return Cell(text, Style::faint); };
  Table table({Align::left, Align::right, Align::right, Align::right, Align::right, Align::right});
  table.add({faint("time"), faint("of malloc's"), faint("of Boehm's"), faint("ours"),
             faint("malloc, free"), faint("Boehm")});
  for (const Compared& each : programs)
    table.add({each.name, ratio(each.ours().seconds, each.malloc().seconds),
               ratio(each.ours().seconds, each.boehm().seconds), time_of(each.ours()),
               time_of(each.malloc()), time_of(each.boehm())});
  table.print();
}

void print_pauses_of(const std::array<Compared, 2>& programs) {
  const auto faint = [](const char* text) { return Cell(text, Style::faint); };
  Table table({Align::left, Align::right, Align::right, Align::right, Align::right, Align::right,
               Align::right});
  table.add({faint("pauses"), faint("longest, of Boehm's"), faint("ours"), faint("median"),
             faint("Boehm's"), faint("median"), faint("number")});
  for (const Compared& each : programs) {
    const example::Durations& ours = each.ours().pauses;
    const example::Durations& theirs = each.boehm().pauses;
    const bool there = theirs.count() != 0;
    table.add({each.name, ratio(ours.longest(), theirs.longest()), duration_text(ours.longest()),
               duration_text(ours.per_mille(500)),
               there ? duration_text(theirs.longest()) : std::string("-"),
               there ? duration_text(theirs.per_mille(500)) : std::string("-"),
               std::to_string(ours.count()) + " to " + std::to_string(theirs.count())});
  }
  table.print();
}

}  // namespace

bool compare_collectors(const TourPace& pace) {
  print_heading("Trees that are made and forgotten");
  std::printf("\n");
  const std::array<Compared, 2> programs{
      compare("GCBench", GcProgram::gcbench, pace.quick),
      compare("binary-trees", GcProgram::binary_trees, pace.quick),
  };
  print_times(programs);
  std::printf("\n");
  print_pauses_of(programs);
  std::printf("\n");
  print_paragraph(
      "Ratios first; below 1 ours is less. The faster of two runs each, in turns. In a pause all "
      "threads stand still; the collector's own thread works beside them, on another processor if "
      "one is free.");
  if (!programs[0].boehm().there)
    print_paragraph(
        "libgc.so.1, the Boehm collector, is not installed: apt-get install libgc1 to compare.");
  const bool right = programs[0].right() && programs[1].right();
  if (!right) print_paragraph("FAILED: something in a heap has been lost.", 2, 4, Style::bad);
  return right;
}

}  // namespace pagetrap::tool
