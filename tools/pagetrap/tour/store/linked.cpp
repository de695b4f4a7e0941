// A persistent store at work: examples/word_store.cpp, run by the tour.
#include <stdlib.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <system_error>

#include "../../../../examples/word_store_crash.hpp"
#include "../../text/screen.hpp"
#include "../chapter.hpp"

namespace pagetrap::tool {
namespace {

namespace fs = std::filesystem;

/// A directory for the store, as long as this is there.
class Folder {
 public:
  Folder() : path_((fs::temp_directory_path() / "pagetrap-tour.XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr)
      throw std::system_error(errno, std::generic_category(), path_);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string file(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::string count(double number) { return grouped(number); }

bool tell(const TourPace& pace) {
  const example::Corpus corpus = example::Corpus::read({"/usr/share/doc", "/usr/include"},
                                                       std::size_t{pace.quick ? 1U : 8U} << 20);
  const Folder folder;
  const std::string path = folder.file("words.store");
  const example::CrashFacts facts = example::crash_and_recover(path, corpus);
  auto store = store::Store::open(path).value();
  example::WordIndex& index = example::open_index(store, corpus);
  const std::uint32_t before = index.documents;
  const auto begin = std::chrono::steady_clock::now();
  example::index_documents(store, index, corpus);
  const double took =
      std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
  const store::StoreStatistics told = store.statistics();
  const double commits = static_cast<double>(std::max<std::uint64_t>(told.commits, 1));

  Table table({Align::left, Align::left});
  table.add({"  SIGKILL", "after " + count(facts.acknowledged) + " of " +
                              count(static_cast<double>(corpus.documents().size())) +
                              " documents, each a durable transaction"});
  table.add({"  opened", count(facts.found) + " documents, " +
                             count(static_cast<double>(facts.words)) + " words; " +
                             count(static_cast<double>(facts.from_log)) +
                             " commits from the log; first look-up after " +
                             duration_text(facts.open_ms * 1e6)});
  table.add({"  compared", "with an index of these documents in memory: " +
                               count(static_cast<double>(facts.differences)) + " differences"});
  const std::uint32_t more = index.documents - before;
  table.add(
      {"  went on", count(more) + " documents, " + duration_text(took / std::max<double>(more, 1)) +
                        " each: " + size_text(static_cast<double>(told.log_bytes) / commits) +
                        " of log, " + count(static_cast<double>(told.pages_changed) / commits) +
                        " pages changed, found by " + told.detector});
  table.print();
  const bool right = facts.differences == 0 && facts.found >= facts.acknowledged &&
                     facts.found <= facts.acknowledged + 1;
  print_paragraph(right ? "Exactly the committed documents are there." : "That is WRONG.", 2, 2,
                  right ? Style::good : Style::bad);
  return right;
}

}  // namespace

bool tell_store(const TourPace& pace) {
  print_paragraph(
      "A word index in std::pmr containers, in a file. Its program changes it by plain assignments "
      "inside transactions; page faults tell which pages changed, a comparison which bytes, and "
      "one "
      "write with one flush makes them durable. It is killed in the middle.");
  try {
    return tell(pace);
  } catch (const std::exception& error) {
    print_paragraph(error.what(), 2, 2, Style::bad);
    return false;
  }
}

}  // namespace pagetrap::tool
