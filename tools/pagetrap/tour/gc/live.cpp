// examples/live_index.cpp, run by the tour with its events traced.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>

#include <pagetrap/trace/trace.hpp>

#include "../../../../examples/live_run.hpp"
#include "../../collections/choose.hpp"
#include "../../collections/print.hpp"
#include "../../collections/trace_file.hpp"
#include "../../text/screen.hpp"
#include "../apart.hpp"
#include "../folder.hpp"
#include "sections.hpp"

namespace pagetrap::tool {
namespace {

constexpr std::size_t kEvents = std::size_t{1} << 20;

struct Lived {
  example::LiveFigures figures;
  bool traced = false;
};

Lived live(const example::Corpus& corpus, const std::string& trace_file) {
  Lived lived;
  const auto traced =
      trace::configure("fault,flip,pause,close,scan,open,pin,stall,cycle", kEvents, trace_file);
  // EBUSY: the user has this process traced, in a ring of his own.
  if (!traced && traced.error().number != EBUSY) throw SystemError(traced.error());
  lived.traced = static_cast<bool>(traced);
  lived.figures = example::run_live(corpus, {});
  return lived;
}

std::string number(std::uint64_t amount) { return grouped(static_cast<double>(amount)); }

void print_run(const example::LiveFigures& figures) {
  const auto durations = [](const example::Durations& all) {
    return "median " + duration_text(all.per_mille(500)) + ", one in a thousand " +
           duration_text(all.per_mille(999)) + ", longest " + duration_text(all.longest());
  };
  Table table({Align::left, Align::left});
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f s", figures.seconds);
  table.add({"indexed", number(figures.documents) + " documents in " + seconds + ": " +
                            number(figures.index.words) + " words, " +
                            number(figures.index.mentions) + " mentions"});
  table.add(
      {"queries", number(figures.queries.count()) + " meanwhile: " + durations(figures.queries)});
  table.add({"", "of the " + number(figures.undisturbed.count()) +
                     " that kept their processor: one in a thousand " +
                     duration_text(figures.undisturbed.per_mille(999)) + ", longest " +
                     duration_text(figures.undisturbed.longest())});
  table.add({"pauses", number(figures.heap.cycles) + " cycles, " +
                           number(figures.heap.full_cycles) + " of them full: median " +
                           duration_text(figures.pauses.per_mille(500)) + ", longest " +
                           duration_text(figures.pauses.longest()) +
                           "; once all threads had stopped, median " +
                           duration_text(figures.standstills.per_mille(500))});
  table.add({"pages", std::string("closed and opened by ") + gc::name(figures.supply) +
                          (figures.supply == gc::PageSupply::mprotect
                               ? ": userfaultfd is not to be had here, and a flip takes time for "
                                 "every page"
                               : "")});
  table.add(
      {"verdict", figures.right()
                      ? Cell("every answer named its document; " + number(figures.index.mentions) +
                                 " mentions compared, 0 different",
                             Style::good)
                      : Cell("FAILED: " + number(figures.wrong) + " wrong answers, " +
                                 number(figures.index.differences) + " differences",
                             Style::bad)});
  table.print();
}

void print_trace(const std::string& trace_file, bool quick) {
  const TraceFile file = read_trace(trace_file).value();
  const CollectionsTrace trace = collections_in(file.events);
  const ChosenCycle chosen = busiest_cycle(trace);
  if (chosen.cycle == nullptr) {
    print_paragraph("No whole cycle is left in its trace of " + number(kEvents) + " events.");
    return;
  }
  print_heading("What the program had left");
  std::printf("\n");
  print_utilisation(Summary(*chosen.heap, trace.watched));
  std::printf("\n");
  print_paragraph(
      "Minimum mutator utilisation: in the worst window of a length, the share of it that was left "
      "for the program. The worst thread has its own traps and waits beside the flips; that the "
      "processors were busy with others counts against it.");
  print_heading("One of its cycles, page by page");
  std::printf("\n");
  print_replay(*chosen.cycle, quick ? 3 : 5);
  std::printf("\n");
  print_paragraph(
      "`pagetrap collections FILE` shows this for any program with a collected heap that was run "
      "with PAGETRAP_TRACE_FILE=FILE (docs/commands.md).");
}

}  // namespace

bool show_live_index(const TourPace& pace) {
  print_heading("A text index that is asked while it grows");
  const auto corpus = example::Corpus::read({"/usr/share/doc", "/usr/include"},
                                            (pace.quick ? std::size_t{4} : 32) << 20);
  print_paragraph(
      size_text(static_cast<double>(corpus.bytes())) + " of this machine's text" +
      (corpus.made_up() ? ", some of it made up" : "") +
      ". One thread adds documents: each makes a new version of the index, which shares with the "
      "last one what is the same. Another thread asks for two words of a document at random, in "
      "the version of that moment, and waits for nobody (examples/live_index.cpp).");
  std::printf("\n");
  const Folder folder(std::filesystem::temp_directory_path());
  const std::string trace_file = folder.path() + "/heap.trace";
  const Lived lived =
      apart<Lived>("indexing and asking ...", [&] { return live(corpus, trace_file); });
  print_run(lived.figures);
  std::printf("\n");
  print_paragraph(
      "Right after a flip a query for two frequent words takes a trap for each page of their "
      "lists. "
      "That makes the slowest ones, and waiting for a processor: three threads are busy, and there "
      "are " +
      std::to_string(std::max(1U, std::thread::hardware_concurrency())) + ".");
  if (lived.traced) {
    print_trace(trace_file, pace.quick);
  } else {
    print_paragraph("PAGETRAP_TRACE is set: the map of a cycle is left out.");
  }
  return lived.figures.right();
}

}  // namespace pagetrap::tool
