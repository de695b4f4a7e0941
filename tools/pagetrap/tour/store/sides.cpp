#include "sides.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "../../../../bench/rivals/record_store.hpp"
#include "../../../../examples/word_store.hpp"
#include "../../text/screen.hpp"
#include "../apart.hpp"
#include "word_tables.hpp"

namespace pagetrap::tool {
namespace {

using Clock = std::chrono::steady_clock;

struct Side {
  FixedText<48> missing;  // the package, if it is not installed
  std::uint32_t documents = 0;
  std::uint32_t transactions = 0;
  double mean_ns = 0;
  double median_ns = 0;
  double slowest_ns = 0;
  double look_up_ns = 0;
  double written_bytes = 0;  // until it was closed; 0: the kernel does not tell, or none
  double file_bytes = 0;
  std::uint64_t answers = 0;  // of all look-ups
};

/// What this process has made the kernel write to devices: pages that became dirty, and direct
/// writes.
double bytes_to_devices() {
  std::ifstream file("/proc/self/io");
  std::string name;
  double amount = 0;
  while (file >> name >> amount)
    if (name == "write_bytes:") return amount;
  return 0;
}

double bytes_on_disk(const std::string& directory) {
  double sum = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    struct stat facts {};
    constexpr double kBlock = 512;
    if (::stat(entry.path().c_str(), &facts) == 0)
      sum += kBlock * static_cast<double>(facts.st_blocks);
  }
  return sum;
}

double since(Clock::time_point begin) {
  return std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
}

/// Words of documents drawn at random, some more often than others as in the text. The same for
/// all sides.
std::vector<std::pmr::string> questions(const example::Corpus& corpus, std::size_t documents) {
  constexpr std::size_t kQuestions = 5000;
  std::mt19937 random(1991);
  std::vector<std::pmr::string> words;
  while (words.size() < kQuestions) {
    std::vector<std::string> found;
    example::for_each_word(
        corpus.documents()[random() % documents],
        [&](std::string_view word, std::uint32_t) { found.push_back(example::lower(word)); });
    for (int i = 0; i < 10 && !found.empty(); ++i)
      words.emplace_back(std::string_view(found[random() % found.size()]));
  }
  return words;
}

/// Until all of `corpus` is there, or the time is over, or `documents` are.
void index(WordTable& table, const example::Corpus& corpus, std::uint32_t documents, double seconds,
           Side& side) {
  std::vector<double> times;
  const auto begin = Clock::now();
  const std::span<const std::string_view> all(corpus.documents());
  while (side.documents < documents && since(begin) < seconds * 1e9) {
    const auto some =
        all.subspan(side.documents, std::min(example::kTogether, documents - side.documents));
    const auto started = Clock::now();
    table.add(side.documents, some);
    times.push_back(since(started));
    side.documents += static_cast<std::uint32_t>(some.size());
  }
  std::sort(times.begin(), times.end());
  side.transactions = static_cast<std::uint32_t>(times.size());
  for (const double time : times) side.mean_ns += time / static_cast<double>(times.size());
  side.median_ns = times[times.size() / 2];
  side.slowest_ns = times.back();
}

Side measure(OpenWordTable open, const example::Corpus& corpus, const std::string& directory,
             std::uint32_t documents, double seconds) {
  Side side;
  const double before = bytes_to_devices();
  std::unique_ptr<WordTable> table;
  try {
    table = open(directory);
  } catch (const bench::NotInstalled& missing) {
    side.missing.set(missing.package);
    return side;
  }
  index(*table, corpus, documents, seconds, side);
  const auto words = questions(corpus, side.documents);
  for (int round = 0; round < 2; ++round) {  // the first finds cold caches
    side.answers = 0;
    const auto begin = Clock::now();
    for (const std::pmr::string& word : words)
      side.answers = side.answers * 31 + table->look_up(word);
    side.look_up_ns = since(begin) / static_cast<double>(words.size());
  }
  table.reset();
  side.written_bytes = bytes_to_devices() - before;
  side.file_bytes = bytes_on_disk(directory);
  return side;
}

struct Rival {
  const char* name;
  const char* folder;
  OpenWordTable open;
};
constexpr std::array<Rival, 2> kRivals{
    {{"LMDB", "lmdb", open_lmdb_words}, {"SQLite, WAL, FULL", "sqlite", open_sqlite_words}}};

void add_row(Table& table, const char* name, const Side& side) {
  if (!side.missing.view().empty()) {
    table.add({name, "-", "-", "-", "-", "-", "-"});
    return;
  }
  const double each = side.written_bytes / side.transactions;
  table.add({name, duration_text(side.mean_ns), duration_text(side.median_ns),
             duration_text(side.slowest_ns), side.written_bytes > 0 ? size_text(each) : "-",
             duration_text(side.look_up_ns), size_text(side.file_bytes)});
}

}  // namespace

bool compare_sides(const example::Corpus& corpus, const std::string& directory,
                   std::uint32_t documents, double seconds) {
  const auto run = [&](const char* doing, const char* folder, OpenWordTable open,
                       std::uint32_t count) {
    const std::string place = directory + "/" + folder;
    std::filesystem::create_directory(place);
    return apart<Side>(doing, [&] { return measure(open, corpus, place, count, seconds); });
  };
  documents = std::min(documents, static_cast<std::uint32_t>(corpus.documents().size()));
  std::array<Side, kRivals.size()> rivals;
  for (std::size_t i = 0; i < kRivals.size(); ++i) {
    rivals[i] = run("indexing in a database ...", kRivals[i].folder, kRivals[i].open, documents);
    if (rivals[i].documents > 0) documents = std::min(documents, rivals[i].documents);
  }
  const Side ours = run("indexing in a store ...", "ours", open_store_words, documents);
  Table table({Align::left, Align::right, Align::right, Align::right, Align::right, Align::right,
               Align::right});
  table.add({"", "transaction", "median", "slowest", "written each", "look-up", "files"});
  add_row(table, "pagetrap", ours);
  for (std::size_t i = 0; i < kRivals.size(); ++i) add_row(table, kRivals[i].name, rivals[i]);
  table.print();
  std::printf("\n");
  bool right = true;
  std::string remarks =
      grouped(ours.transactions) + " durable transactions of up to " +
      std::to_string(example::kTogether) +
      " documents each, then closed. \"Written\" is what the kernel counts for the "
      "process, checkpoints included, and for us the making of a log of 8 MiB; a look-up adds up "
      "the documents of a word.";
  if (ours.written_bytes == 0)
    remarks += " No device was written to here: nothing of this survives a power failure.";
  for (std::size_t i = 0; i < kRivals.size(); ++i) {
    const Side& rival = rivals[i];
    if (!rival.missing.view().empty()) {
      remarks += std::string(" ") + kRivals[i].name + " is not installed (" +
                 std::string(rival.missing.view()) + "; tools/install-rivals).";
    } else if (rival.documents != ours.documents) {
      remarks += std::string(" ") + kRivals[i].name + " has " + grouped(rival.documents) +
                 " documents, we " + grouped(ours.documents) + ": the time was over.";
    } else {
      right = right && rival.answers == ours.answers;
    }
  }
  print_paragraph(remarks);
  if (!right) print_paragraph("The answers DIFFER.", 2, 4, Style::bad);
  return right;
}

}  // namespace pagetrap::tool
