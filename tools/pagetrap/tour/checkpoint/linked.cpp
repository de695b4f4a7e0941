// Checkpoints at work: examples/text_index.cpp, run by the tour.
#include <unistd.h>

#include <array>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>

#include "../../../../examples/text_crash.hpp"
#include "../../../../examples/text_indexer.hpp"
#include "../../../../examples/text_twins.hpp"
#include "../../text/progress.hpp"
#include "../../text/screen.hpp"
#include "../apart.hpp"
#include "../chapter.hpp"
#include "../folder.hpp"

namespace pagetrap::tool {
namespace {

namespace fs = std::filesystem;
using checkpoint::RestoreMode;

std::string milliseconds(double amount_us) { return duration_text(amount_us * 1e3); }

std::vector<Cell> row_of(const char* name, const example::TwinFigures& figures) {
  return {name,
          milliseconds(figures.stall_us),
          milliseconds(figures.slowest_update_us),
          size_text(figures.extra_bytes),
          size_text(figures.file_bytes),
          duration_text(figures.save_ms * 1e6),
          grouped(figures.saving_rate / figures.quiet_rate * 100) + "%"};
}

void compare_saves(const example::Corpus& corpus, const TourPace& pace) {
  const Folder folder(fs::temp_directory_path());
  const example::TwinOptions how{.directory = folder.path(),
                                 .saves = pace.quick ? 2U : 5U,
                                 .between = std::chrono::milliseconds(pace.quick ? 50 : 150)};
  using example::TwinFigures;
  const auto full = apart<TwinFigures>(
      "saving whole images ...", [&] { return example::measure_pagetrap(corpus, how, false); });
  const auto increments = apart<TwinFigures>(
      "saving increments ...", [&] { return example::measure_pagetrap(corpus, how, true); });
  const auto forked = apart<TwinFigures>("saving by fork() ...",
                                         [&] { return example::measure_fork(corpus, how); });
  const auto instructions = apart<TwinFigures>(
      "saving by instructions ...", [&] { return example::measure_instructions(corpus, how); });
  Table table({Align::left, Align::right, Align::right, Align::right, Align::right, Align::right,
               Align::right});
  table.add({"", "all stop", "slowest", "extra", "written", "until it is", "updates"});
  table.add({"", "for", "update", "memory", "", "on disk", "meanwhile"});
  table.add(row_of("cut, whole image", full));
  table.add(row_of("cut, increment", increments));
  table.add(row_of("fork()", forked));
  table.add(row_of("copies by instructions", instructions));
  table.print();
  std::printf("\n");
  print_paragraph(
      "An index of " + size_text(static_cast<double>(full.heap_bytes)) +
      ", edited by two threads as fast as they can. The cut stops them for " +
      milliseconds(full.stall_us) + ", fork() for " + milliseconds(forked.stall_us) +
      ", and fork()'s time grows with the heap. After it, a thread that touches what is not saved "
      "yet saves 256 KiB first: the slowest update is one that touches a great deal at once. "
      "The instructions are a test in every write, which the program must have; they copy less, "
      "and "
      "stop threads for a lock only. They and fork() write the postings, an image all memory.");
}

bool print_findings(const example::Findings& found, RestoreMode mode) {
  Table table({Align::left, Align::left});
  table.add({mode == RestoreMode::lazy ? "lazily" : "eagerly",
             "generation " + std::to_string(found.generation) + " restored: first answer after " +
                 duration_text(found.first_answer_ms * 1e6) + ", all of it after " +
                 duration_text(found.all_there_ms * 1e6)});
  table.add({"proof", grouped(static_cast<double>(found.applied[0] + found.applied[1])) +
                          " updates replayed from the journals, up to the image's counters: " +
                          grouped(static_cast<double>(found.comparison.words)) + " words with " +
                          grouped(static_cast<double>(found.comparison.postings)) +
                          " postings compared"});
  table.add({"verdict", found.right() ? Cell("no difference", Style::good)
                        : found.comparison.differences > 0
                            ? Cell(grouped(static_cast<double>(found.comparison.differences)) +
                                       " words DIFFER",
                                   Style::bad)
                            : Cell("FAILED: not the last cut, or it does not go on", Style::bad)});
  table.print();
  return found.right();
}

bool crash_and_restore(const example::Corpus& corpus, const TourPace& pace) {
  const Folder folder(fs::temp_directory_path());
  example::IndexerOptions how;
  how.directory = folder.path();
  how.every = std::chrono::milliseconds(pace.quick ? 200 : 1000);
  example::Crash crashed;
  {
    Progress progress;
    progress.show("indexing, until a SIGKILL ...");
    std::fflush(stdout);
    crashed = example::crash_in_the_middle({.directory = folder.path()}, [&] {
      const pid_t child = ::fork();
      if (child != 0) return child;
      try {
        const std::atomic<bool> never = false;
        example::index_until(corpus, how, never);
      } catch (const std::exception&) {
      }
      ::_exit(1);
    });
  }
  if (!crashed.problem.empty()) throw std::runtime_error(crashed.problem);
  {
    const example::Records records(folder.path());
    Table table({Align::left, Align::left, Align::right, Align::right, Align::right});
    table.add({"generation", "", "written", "cut", "on disk after"});
    for (std::uint64_t i = 0; i < crashed.complete; ++i) {
      const auto& cut = records.ledger->records[i % example::Ledger::kMost];
      table.add({std::to_string(cut.generation), cut.incremental ? "increment" : "whole",
                 size_text(static_cast<double>(cut.image_bytes)), milliseconds(cut.frozen_us),
                 milliseconds(cut.save_us)});
    }
    table.add({std::to_string(crashed.complete + 1), Cell("SIGKILL", Style::bold),
               size_text(static_cast<double>(crashed.left.bytes)), "", "never"});
    table.print();
    std::printf("\n");
  }
  bool right = true;
  for (const RestoreMode mode : {RestoreMode::lazy, RestoreMode::eager}) {
    const auto found = apart<example::Findings>("restoring, and replaying the journals ...", [&] {
      return example::verify_restored(corpus, folder.path(), mode, mode == RestoreMode::eager);
    });
    right = print_findings(found, mode) && right;
  }
  const bool clean = example::unfinished_images(folder.path()).files == 0;
  print_paragraph(clean ? "Both went on updating from there; the second saved another generation, "
                          "which removed the half image."
                        : "The half image is STILL there.",
                  2, 4, clean ? Style::plain : Style::bad);
  return right && clean;
}

}  // namespace

bool tell_checkpoint(const TourPace& pace) {
  std::printf("\n");
  print_paragraph(
      "A program with its data in std::pmr containers saves an image of one instant, the cut, and "
      "goes on. PROTN, or moving all page tables aside, takes the cut; TRAP finds the threads that "
      "touch what is not saved yet; DIRTY makes increments (examples/text_index.cpp).");
  try {
    const std::size_t megabytes = pace.quick ? 4 : 32;
    const auto corpus = example::Corpus::read({"/usr/share/doc", "/usr/include"}, megabytes << 20);
    print_heading("A cut, and fork()");
    print_paragraph("Two threads index " + size_text(static_cast<double>(corpus.bytes())) +
                    " of this machine's text" + (corpus.made_up() ? ", some of it made up" : "") +
                    ", then edit documents:");
    std::printf("\n");
    compare_saves(corpus, pace);
    print_heading("SIGKILL in the middle of a save");
    print_paragraph(
        "The same program, with a checkpoint every so often, is killed while it writes one. Two "
        "new processes restore what it left, and compare the index with what the journals say that "
        "the program wrote outside of it:");
    std::printf("\n");
    return crash_and_restore(corpus, pace);
  } catch (const std::exception& error) {
    print_paragraph(std::string("It did not run: ") + error.what(), 2, 4, Style::bad);
    return false;
  }
}

}  // namespace pagetrap::tool
