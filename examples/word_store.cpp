// A word index of this machine's text that survives SIGKILL: plain std::pmr containers in a
// persistent store, a transaction for every four documents.
//
//   word_store FILE [--megabytes N]              index what is not indexed yet, then ask
//   word_store FILE [--megabytes N] --kill N     be killed N times in a commit, each time proved
//   word_store FILE [--megabytes N] --prove      compare it with the text
#include <charconv>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <random>
#include <string>
#include <string_view>

#include "word_store_crash.hpp"

namespace {

using namespace example;
using pagetrap::store::Store;

double each(std::uint64_t amount, std::uint64_t commits) {
  return commits == 0 ? 0.0 : static_cast<double>(amount) / static_cast<double>(commits);
}

int index_and_ask(const std::string& path, const Corpus& corpus) {
  Store store = Store::open(path).value();
  WordIndex& index = open_index(store, corpus);
  std::printf("found     %u of %zu documents, %zu words\n", index.documents(),
              corpus.documents().size(), index.documents_of.size());
  index_all(store, index, corpus);
  const auto facts = store.statistics();
  std::printf("indexed   %u documents, %zu words, in %" PRIu64
              " commits: %.1f KiB of log, %.2f flushes each\n",
              index.documents(), index.documents_of.size(), facts.commits,
              each(facts.log_bytes, facts.commits) / 1024, each(facts.log_flushes, facts.commits));
  for (const char* const word : {"copyright", "memory", "persistent"}) {
    const auto found = index.documents_of.find(word);
    std::printf("          \"%s\" is in %zu documents\n", word,
                found == index.documents_of.end() ? 0 : found->second.size());
  }
  return 0;
}

void print_proof(const Proof& proof) {
  std::printf("compared  %" PRIu64 " words, %" PRIu64 " postings of %" PRIu64 " documents: %" PRIu64
              " differences\n",
              proof.words, proof.postings, proof.documents,
              proof.wrong_words + proof.wrong_receipts);
  if (!proof.whole_transactions) std::puts("          part of a transaction is there");
  if (!proof.sees_one_more) std::puts("          the comparison does not see a document more");
}

int prove_it(const std::string& path, const Corpus& corpus) {
  Store store = Store::open(path, {.create = false}).value();
  const Proof proof = prove(open_index(store, corpus), corpus);
  print_proof(proof);
  std::printf("verdict   %s\n", proof.right() ? "the index is that of the text" : "WRONG");
  return proof.right() ? 0 : 1;
}

int kill_it(const std::string& path, const Corpus& corpus, unsigned kills) {
  const unsigned seed = std::random_device()();
  std::printf("seed      %u\n", seed);
  std::mt19937 random(seed);
  // Some come too late for their commit. Then there is another, as long as there is text.
  const auto step = static_cast<std::uint32_t>(corpus.documents().size() / (3 * kills + 1));
  bool right = true;
  unsigned in_commit = 0;
  for (unsigned i = 0; i < 3 * kills && in_commit < kills; ++i) {
    const std::uint32_t more = std::uniform_int_distribution<std::uint32_t>(0, step)(random);
    const Kill kill = kill_and_prove(path, corpus, more, random);
    if (kill.ended) break;
    std::printf("SIGKILL   %s, after %u documents were acknowledged\n",
                kill.in_commit ? "in a commit" : "between commits", kill.acknowledged);
    std::printf("opened    %" PRIu64 " commits from the log; first look-up after %.1f ms\n",
                kill.from_log, kill.open_ms);
    print_proof(kill.found);
    right = right && kill.right();
    in_commit += kill.in_commit ? 1 : 0;
  }
  if (in_commit == 0) std::puts("          no commit was caught in the middle");
  right = right && in_commit > 0;
  std::printf("verdict   %s\n", right ? "each time exactly the committed documents" : "WRONG");
  return right ? 0 : 1;
}

struct Options {
  std::string path;
  std::size_t megabytes = 8;
  unsigned kills = 0;
  bool prove = false;
};

template <class T>
bool number_in(std::string_view text, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size() && number > 0 && number < 4096;
}

std::optional<Options> parse(int argc, char** argv) {
  Options options;
  bool good = true;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--prove") {
      options.prove = true;
    } else if (word == "--kill" && i + 1 < argc) {
      good = number_in(argv[++i], options.kills) && good;
    } else if (word == "--megabytes" && i + 1 < argc) {
      good = number_in(argv[++i], options.megabytes) && good;
    } else if (options.path.empty() && !word.starts_with("-")) {
      options.path = word;
    } else {
      good = false;
    }
  }
  if (good && !options.path.empty()) return options;
  std::fputs("usage: word_store FILE [--megabytes N] [--kill N | --prove]\n", stderr);
  return std::nullopt;
}

}  // namespace

int main(int argc, char** argv) try {
  const auto options = parse(argc, argv);
  if (!options) return 2;
  const Corpus corpus = Corpus::read({"/usr/share/doc", "/usr/include"}, options->megabytes << 20);
  std::printf("text      %.1f MiB of %zu files, %zu documents\n",
              static_cast<double>(corpus.bytes()) / (1 << 20), corpus.files(),
              corpus.documents().size());
  std::fflush(stdout);
  if (options->prove) return prove_it(options->path, corpus);
  return options->kills > 0 ? kill_it(options->path, corpus, options->kills)
                            : index_and_ask(options->path, corpus);
} catch (const std::exception& error) {
  std::fprintf(stderr, "word_store: %s\n", error.what());
  return 1;
}
