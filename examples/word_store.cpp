// A word index of this machine's text that survives SIGKILL: plain std::pmr containers in a
// persistent store, a transaction for each document.
//
//   word_store FILE [--megabytes N]            index what is not indexed yet, then ask
//   word_store FILE [--megabytes N] --crash    be killed in the middle, open again, prove
#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>

#include "word_store_crash.hpp"

namespace {

using namespace example;
using pagetrap::store::Store;

int index_and_ask(const std::string& path, const Corpus& corpus) {
  Store store = Store::open(path).value();
  WordIndex& index = open_index(store, corpus);
  std::printf("found     %u of %zu documents, %zu words\n", index.documents,
              corpus.documents().size(), index.documents_of.size());
  index_documents(store, index, corpus);
  const auto facts = store.statistics();
  std::printf(
      "indexed   %u documents, %zu words, in %llu commits: %.1f KiB of log, %.2f flushes each\n",
      index.documents, index.documents_of.size(), static_cast<unsigned long long>(facts.commits),
      facts.commits == 0
          ? 0.0
          : static_cast<double>(facts.log_bytes) / 1024.0 / static_cast<double>(facts.commits),
      facts.commits == 0
          ? 0.0
          : static_cast<double>(facts.log_flushes) / static_cast<double>(facts.commits));
  for (const char* const word : {"copyright", "memory", "persistent"}) {
    const auto found = index.documents_of.find(word);
    std::printf("          \"%s\" is in %zu documents\n", word,
                found == index.documents_of.end() ? 0 : found->second.size());
  }
  return 0;
}

int crash(const std::string& path, const Corpus& corpus) {
  const CrashFacts facts = crash_and_recover(path, corpus);
  std::printf("SIGKILL   after %u documents were acknowledged\n", facts.acknowledged);
  std::printf(
      "opened    %u documents, %zu words; %llu commits from the log; first look-up after %.1f ms\n",
      facts.found, facts.words, static_cast<unsigned long long>(facts.from_log), facts.open_ms);
  std::printf("compared  with an index of these %u documents: %zu differences\n", facts.found,
              facts.differences);
  // The one that was being acknowledged may be there as well.
  const bool right = facts.differences == 0 && facts.found >= facts.acknowledged &&
                     facts.found <= facts.acknowledged + 1;
  std::printf("verdict   %s\n", right ? "exactly the committed documents are there" : "WRONG");
  return right ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
  std::string path;
  std::size_t megabytes = 8;
  bool kill = false;
  bool usage = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--crash") {
      kill = true;
    } else if (word == "--megabytes" && i + 1 < argc) {
      const char* const end = argv[i + 1] + std::strlen(argv[i + 1]);
      usage = usage || std::from_chars(argv[i + 1], end, megabytes).ptr != end || megabytes == 0;
      ++i;
    } else if (path.empty() && word.substr(0, 1) != "-") {
      path = word;
    } else {
      usage = true;
    }
  }
  if (usage || path.empty()) {
    std::fputs("usage: word_store FILE [--megabytes N] [--crash]\n", stderr);
    return 2;
  }
  const Corpus corpus = Corpus::read({"/usr/share/doc", "/usr/include"}, megabytes << 20);
  std::printf("text      %.1f MiB of %zu files, %zu documents\n",
              static_cast<double>(corpus.bytes()) / (1 << 20), corpus.files(),
              corpus.documents().size());
  std::fflush(stdout);
  return kill ? crash(path, corpus) : index_and_ask(path, corpus);
} catch (const std::exception& error) {
  std::fprintf(stderr, "word_store: %s\n", error.what());
  return 1;
}
