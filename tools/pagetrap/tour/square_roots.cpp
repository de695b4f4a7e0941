// The table of square roots at work: examples/sqrt_table.hpp, run by the tour.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include <pagetrap/vm/vm.hpp>

#include "../../../examples/resident.hpp"
#include "../../../examples/sqrt_readers.hpp"
#include "../../../examples/sqrt_table.hpp"
#include "../measure/contained.hpp"
#include "../measure/measured.hpp"
#include "../text/progress.hpp"
#include "../text/screen.hpp"
#include "chapter.hpp"

namespace pagetrap::tool {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kPages = 16;
constexpr unsigned kThreads = 4;

/// What the child that ran the table brings home.
struct RootFigures {
  std::uint64_t table_bytes = 0;
  std::uint64_t faults = 0;
  example::SqrtCounts counts;
  std::uint64_t most_resident = 0;
  std::uint64_t samples = 0;
  bool resident_known = true;
  double seconds = 0;  // without the pauses for counting
  BackendId backend = BackendId::null;
  FixedText<256> problem;
};

/// A few faults, told one by one.
void explain_faults() {
  auto table = example::largest_sqrt_table({.resident_pages = 2, .explain = true}).value();
  const std::uint64_t step = table->entries() / 5;
  std::fflush(stdout);  // the handler writes by itself
  double sum = 0;
  for (std::uint64_t i = 1; i < 5; ++i) sum += (*table)[i * step];
  std::printf("(the sum of those four roots is %.3f)\n", sum);
  std::fflush(stdout);
}

void sample_residency(example::SqrtTable& table, example::SqrtReaders& readers,
                      RootFigures& figures) {
  const auto begin = Clock::now();
  readers.stand_still();
  table.region().quiesce();
  const auto pages = example::resident_pages(table.region().range());
  readers.run();
  figures.seconds -= std::chrono::duration<double>(Clock::now() - begin).count();
  figures.resident_known = figures.resident_known && pages.has_value();
  if (!pages) return;
  figures.most_resident = std::max<std::uint64_t>(figures.most_resident, pages->count());
  ++figures.samples;
}

void show_progress(Progress& progress, const example::SqrtTable& table,
                   const example::SqrtCounts& counts, double seconds_left) {
  constexpr double kMillion = 1e6;
  std::array<char, 160> line{};
  std::snprintf(line.data(), line.size(),
                "%.0f s left: %.1f million roots checked, %.0f thousand faults", seconds_left,
                static_cast<double>(counts.random + counts.sequential) / kMillion,
                static_cast<double>(table.faults()) / 1000);
  progress.show(line.data());
}

void run_table(double seconds, RootFigures& figures) {
  auto table = example::largest_sqrt_table({.resident_pages = kPages}).value();
  figures.table_bytes = table->region().size_bytes();
  figures.backend = table->region().backend();
  const auto begin = Clock::now();
  {
    Progress progress;
    example::SqrtReaders readers(*table, kThreads, 1991);
    readers.run();
    for (int tick = 1;; ++tick) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      const double passed = std::chrono::duration<double>(Clock::now() - begin).count();
      if (passed >= seconds) break;
      show_progress(progress, *table, readers.counts(), seconds - passed);
      if (tick % 10 == 0) sample_residency(*table, readers, figures);
    }
    readers.stand_still();
    figures.seconds += std::chrono::duration<double>(Clock::now() - begin).count();
    figures.counts = readers.counts();
  }
  figures.faults = table->faults();
}

bool print_figures(const RootFigures& figures) {
  const example::SqrtCounts& counts = figures.counts;
  const bool right = counts.wrong == 0 && counts.sequential > 0 && figures.samples > 0 &&
                     figures.resident_known && figures.most_resident <= kPages;
  Table table({Align::left, Align::left});
  table.add({"table", size_text(static_cast<double>(figures.table_bytes)) +
                          " of addresses, served by " + name(figures.backend)});
  table.add({"checked", grouped(static_cast<double>(counts.random)) + " random and " +
                            grouped(static_cast<double>(counts.sequential)) +
                            " consecutive positions, by " + std::to_string(kThreads) +
                            " threads in " + duration_text(figures.seconds * 1e9) +
                            " (they stood still while pages were counted)"});
  table.add({"faults", grouped(static_cast<double>(figures.faults)) + ", " +
                           grouped(static_cast<double>(figures.faults) / figures.seconds) +
                           " per second; each computes " +
                           std::to_string(page_size() / sizeof(double)) +
                           " roots and evicts a page"});
  table.add({"resident", "at most " + std::to_string(figures.most_resident) + " of " +
                             std::to_string(kPages) + " pages allowed, counted " +
                             std::to_string(figures.samples) + " times in /proc/self/smaps"});
  table.add({"verdict",
             right ? Cell("all values right", Style::good)
             : counts.wrong > 0
                 ? Cell(grouped(static_cast<double>(counts.wrong)) + " values WRONG", Style::bad)
                 : Cell("FAILED: too many pages, or nothing counted", Style::bad)});
  table.print();
  return right;
}

}  // namespace

bool tell_square_roots(const TourPace& pace) {
  const double seconds = pace.quick ? 2 : 10;
  print_heading("A table larger than memory");
  print_paragraph(
      "The mmap homework of MIT's course 6.828: a table of 2^37 square roots, 1 TiB, of which 16 "
      "pages exist at any time. Nobody fills it beforehand: the first touch of a page faults, the "
      "handler computes its roots, evicts another page, and the load runs again. First four faults "
      "one by one, with two pages allowed (examples/sqrt_table.cpp --explain):");
  std::printf("\n");
  constexpr unsigned kExplainSeconds = 10;
  struct Nothing {};
  const auto explained =
      contained<Nothing>(kExplainSeconds, [](Nothing& /*answer*/) { explain_faults(); });
  std::printf("\n");
  print_paragraph("Now with " + std::to_string(kThreads) + " threads that read and check for " +
                  duration_text(seconds * 1e9) + ":");
  const auto result = contained<RootFigures>(60, [&](RootFigures& figures) {
    try {
      run_table(seconds, figures);
    } catch (const std::exception& error) {
      figures.problem.set(words_of(error));
    }
  });
  const std::string problem = !explained.failure.empty() ? explained.failure
                              : !result.failure.empty()  ? result.failure
                                                        : std::string(result.answer.problem.view());
  if (!problem.empty()) {
    print_paragraph("It did not run: " + problem, 2, 4, Style::bad);
    return false;
  }
  return print_figures(result.answer);
}

}  // namespace pagetrap::tool
