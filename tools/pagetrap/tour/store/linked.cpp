// A persistent store at work: examples/word_store.cpp, run by the tour.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>
#include <string>

#include "../../../../examples/word_store_crash.hpp"
#include "../../text/screen.hpp"
#include "../apart.hpp"
#include "../chapter.hpp"
#include "../folder.hpp"
#include "sides.hpp"

namespace pagetrap::tool {
namespace {

constexpr unsigned kMostKills = 24;

/// What a child brings home.
struct Killed {
  unsigned seed = 0;
  unsigned count = 0;
  unsigned in_commit = 0;
  std::array<example::Kill, kMostKills> kills;
};

struct Completed {
  example::Proof proof;
  store::StoreStatistics facts;
};

/// Where files are on a disk: what is in memory loses everything in a power failure.
std::string disk() {
  const char* const wanted = std::getenv("TMPDIR");
  return wanted != nullptr && *wanted != '\0' ? wanted : "/var/tmp";
}

Killed kill_often(const std::string& path, const example::Corpus& corpus, unsigned wanted) {
  Killed killed;
  killed.seed = std::random_device()();
  std::mt19937 random(killed.seed);
  // Not all of the text: each of them must find some that is not indexed yet.
  const auto step = static_cast<std::uint32_t>(corpus.documents().size() / (2 * kMostKills));
  while (killed.in_commit < wanted && killed.count < kMostKills) {
    const std::uint32_t more = std::uniform_int_distribution<std::uint32_t>(0, step)(random);
    const auto kill = example::kill_and_prove(path, corpus, more, random);
    if (kill.ended) break;
    killed.in_commit += kill.in_commit ? 1 : 0;
    killed.kills[killed.count++] = kill;
  }
  return killed;
}

/// Another process goes on to the end.
Completed complete(const std::string& path, const example::Corpus& corpus) {
  auto store = store::Store::open(path).value();
  example::WordIndex& index = example::open_index(store, corpus);
  example::index_all(store, index, corpus);
  return {example::prove(index, corpus), store.statistics()};
}

std::string number(std::uint64_t amount) { return grouped(static_cast<double>(amount)); }

std::uint64_t differences(const example::Proof& proof) {
  return proof.wrong_words + proof.wrong_receipts;
}

void print_kills(const Killed& killed) {
  Table table({Align::left, Align::right, Align::right, Align::right, Align::right, Align::right,
               Align::right});
  table.add({"SIGKILL", "acknowledged", "found", "from the log", "first look-up", "compared",
             "different"});
  for (unsigned i = 0; i < killed.count; ++i) {
    const example::Kill& kill = killed.kills[i];
    table.add({kill.in_commit ? "in a commit" : "between commits", number(kill.acknowledged),
               number(kill.found.documents), number(kill.from_log),
               duration_text(kill.open_ms * 1e6), number(kill.found.postings),
               Cell(number(differences(kill.found)), kill.right() ? Style::plain : Style::bad)});
  }
  table.print();
  std::printf("\n");
}

bool print_verdict(const Killed& killed, const Completed& completed) {
  bool right = killed.in_commit > 0 && completed.proof.right();
  unsigned there = 0;
  for (unsigned i = 0; i < killed.count; ++i) {
    const example::Kill& kill = killed.kills[i];
    right = right && kill.right();
    if (kill.in_commit && kill.found.documents > kill.acknowledged) ++there;
  }
  print_paragraph(
      "\"Acknowledged\" are documents whose commit had returned, \"found\" those in the store "
      "afterwards, compared posting by posting with an index made anew, in memory, by other code; "
      "so are the checksums and counts that each transaction left. Of " +
      std::to_string(killed.in_commit) + " transactions that were killed in their commit, " +
      std::to_string(there) + " are there as a whole and " +
      std::to_string(killed.in_commit - there) + " not at all.");
  const auto& facts = completed.facts;
  const auto each = [&](std::uint64_t amount) {
    return static_cast<double>(amount) /
           static_cast<double>(std::max<std::uint64_t>(1, facts.commits));
  };
  char flushes[32];
  std::snprintf(flushes, sizeof flushes, "%.2f", each(facts.log_flushes));
  Table table({Align::left, Align::left});
  table.add({"went on", number(facts.commits) +
                            " transactions: " + size_text(each(facts.log_bytes)) + " of log and " +
                            flushes + " flushes each; " + grouped(each(facts.pages_changed)) +
                            " pages changed, found by " + facts.detector});
  table.add({"in the end", number(completed.proof.words) + " words, " +
                               number(completed.proof.postings) + " postings of " +
                               number(completed.proof.documents) + " documents, " +
                               number(differences(completed.proof)) + " different"});
  table.add({"verdict", right ? Cell("each time exactly the committed transactions", Style::good)
                        : killed.in_commit == 0
                            ? Cell("FAILED: no commit was caught", Style::bad)
                            : Cell("FAILED: seed " + std::to_string(killed.seed), Style::bad)});
  table.print();
  return right;
}

bool survive_kills(const example::Corpus& corpus, const Folder& folder, const TourPace& pace) {
  const std::string path = folder.path() + "/words.store";
  const auto killed = apart<Killed>("indexing, until a SIGKILL ...",
                                    [&] { return kill_often(path, corpus, pace.quick ? 3 : 8); });
  print_kills(killed);
  const auto completed =
      apart<Completed>("indexing the rest ...", [&] { return complete(path, corpus); });
  return print_verdict(killed, completed);
}

}  // namespace

bool tell_store(const TourPace& pace) {
  std::printf("\n");
  print_paragraph(
      "A word index in std::pmr containers, in a file. Its program changes it by plain assignments "
      "inside transactions; DIRTY or TRAP tells which pages changed, a comparison which bytes, and "
      "one write with one flush makes them durable (examples/word_store.cpp).");
  try {
    const std::size_t megabytes = pace.quick ? 1 : 8;
    const auto corpus = example::Corpus::read({"/usr/share/doc", "/usr/include"}, megabytes << 20);
    const Folder folder(disk());
    print_heading("SIGKILL in the middle of a commit");
    print_paragraph("A process indexes " + size_text(static_cast<double>(corpus.bytes())) +
                    " of this machine's text" + (corpus.made_up() ? ", some of it made up" : "") +
                    ", " + std::to_string(example::kTogether) +
                    " documents in a transaction, and is killed at a random instant of one. The "
                    "next one goes on with what it finds, until it is killed too:");
    std::printf("\n");
    const bool right = survive_kills(corpus, folder, pace);
    print_heading("The same in a database");
    std::printf("\n");
    return compare_sides(corpus, folder.path(), pace.quick ? 128 : 800, pace.quick ? 1 : 4) &&
           right;
  } catch (const std::exception& error) {
    print_paragraph(std::string("It did not run: ") + error.what(), 2, 4, Style::bad);
    return false;
  }
}

}  // namespace pagetrap::tool
