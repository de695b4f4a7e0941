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

/// The faster of two runs, and the longest pause of both.
struct Best {
  SideFigures figures;
  void add(const SideFigures& run, bool first) {
    const double seconds = first ? run.seconds : std::min(figures.seconds, run.seconds);
    const double pause = std::max(figures.longest_pause_us, run.longest_pause_us);
    const bool right = run.right && (first || figures.right);
    figures = run;
    figures.seconds = seconds;
    figures.longest_pause_us = pause;
    figures.right = right;
  }
};

constexpr std::array<GcSide, 3> kSides{GcSide::ours, GcSide::malloc, GcSide::boehm};

std::string ratio(double ours, double theirs) {
  char text[32];
  std::snprintf(text, sizeof text, ours / theirs < 0.0995 ? "%.4f" : "%.2f", ours / theirs);
  return text;
}

std::string seconds(const SideFigures& figures) {
  return figures.there ? duration_text(figures.seconds * 1e9) : "-";
}

bool add_program(Table& table, const char* name, GcProgram program, bool quick, bool& boehm) {
  std::array<Best, kSides.size()> best;
  for (const bool first : {true, false})
    for (std::size_t i = 0; i < kSides.size(); ++i)
      best[i].add(run_side(kSides[i], program, quick), first);
  const SideFigures& ours = best[0].figures;
  const SideFigures& manual = best[1].figures;
  const SideFigures& theirs = best[2].figures;
  boehm = theirs.there;
  const auto against = [&](double a, double b) { return b > 0 ? ratio(a, b) : std::string("-"); };
  table.add({name, against(ours.seconds, manual.seconds), against(ours.seconds, theirs.seconds),
             seconds(ours), seconds(manual), seconds(theirs),
             against(ours.longest_pause_us, theirs.longest_pause_us),
             duration_text(ours.longest_pause_us * 1e3),
             theirs.there ? duration_text(theirs.longest_pause_us * 1e3) : "-"});
  return ours.right && manual.right && (theirs.right || !theirs.there);
}

}  // namespace

bool compare_collectors(const TourPace& pace) {
  print_heading("Trees that are made and forgotten");
  std::printf("\n");
  Table table({Align::left, Align::right, Align::right, Align::right, Align::right, Align::right,
               Align::right, Align::right, Align::right});
  const auto faint = [](const char* text) { return Cell(text, Style::faint); };
  table.add({"", faint("of malloc's"), faint("of Boehm's"), faint("time"), faint("malloc"),
             faint("Boehm"), faint("of Boehm's"), faint("pause"), faint("Boehm")});
  bool boehm = false;
  bool right = add_program(table, "GCBench", GcProgram::gcbench, pace.quick, boehm);
  right = add_program(table, "binary-trees", GcProgram::binary_trees, pace.quick, boehm) && right;
  table.print();
  std::printf("\n");
  print_paragraph(
      "Ratios first: our time to malloc and free's and to the Boehm collector's, and our longest "
      "pause to Boehm's, where a pause is a time that all threads stand still; below 1 ours is "
      "less. "
      "The faster of two runs each, in turns. The collector's own thread has the other processor, "
      "if that is free.");
  if (!boehm)
    print_paragraph(
        "libgc.so.1, the Boehm collector, is not installed: apt-get install libgc1 to compare.");
  if (!right) print_paragraph("FAILED: something in a heap has been lost.", 2, 4, Style::bad);
  return right;
}

}  // namespace pagetrap::tool
