// A text index that is asked while it grows, in a collected heap: a document makes a new version,
// readers take no lock, and the collector runs beside them.
//
//   live_index [--megabytes N] [--readers N] [--supply NAME] [DIRECTORY WITH TEXT...]
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "live_run.hpp"

namespace {

using namespace example;

struct Options {
  std::size_t megabytes = 8;
  LiveOptions live;
  std::vector<std::string> roots;
};

template <class T>
bool number_in(std::string_view text, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size() && number > 0 && number < 4096;
}

bool supply_named(std::string_view name, gc::PageSupply& supply) {
  for (const auto each :
       {gc::PageSupply::best, gc::PageSupply::uffd_minor, gc::PageSupply::uffd_copy,
        gc::PageSupply::mprotect, gc::PageSupply::none}) {
    if (name != gc::name(each)) continue;
    supply = each;
    return true;
  }
  return false;
}

bool apply(Options& options, std::string_view name, std::string_view value) {
  if (name == "--megabytes") return number_in(value, options.megabytes);
  if (name == "--readers") return number_in(value, options.live.readers);
  if (name == "--supply") return supply_named(value, options.live.heap.supply);
  return false;
}

std::optional<Options> parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (!word.starts_with("-")) {
      options.roots.emplace_back(word);
    } else if (i + 1 < argc && apply(options, word, argv[i + 1])) {
      ++i;
    } else {
      std::fputs(
          "usage: live_index [--megabytes N] [--readers N] [--supply NAME] "
          "[DIRECTORY WITH TEXT...]\n",
          stderr);
      return std::nullopt;
    }
  }
  if (options.roots.empty()) options.roots = {"/usr/share/doc", "/usr/include"};
  return options;
}

double us(double nanoseconds) { return nanoseconds / 1000; }

void print(const LiveFigures& figures) {
  std::printf("indexed   %" PRIu64 " documents, %" PRIu64 " words, %" PRIu64
              " mentions in %.2f s\n",
              figures.documents, figures.index.words, figures.index.mentions, figures.seconds);
  std::printf("cycles    %" PRIu64 ", of which %" PRIu64
              " full (%s); all threads stopped for %.0f us (median), %.0f us (longest)\n",
              figures.heap.cycles, figures.heap.full_cycles, gc::name(figures.supply),
              us(figures.pauses.per_mille(500)), us(figures.pauses.longest()));
  std::printf("queries   %" PRIu64
              " meanwhile: %.1f us (median), %.0f us (one in a thousand), %.0f us (longest)\n",
              figures.queries.count(), us(figures.queries.per_mille(500)),
              us(figures.queries.per_mille(999)), us(figures.queries.longest()));
  std::printf("          %.0f us (one in a thousand), %.0f us (longest) of the %" PRIu64
              " that kept their processor\n",
              us(figures.undisturbed.per_mille(999)), us(figures.undisturbed.longest()),
              figures.undisturbed.count());
  std::printf("answers   %" PRIu64 " wrong\n", figures.wrong);
  std::printf("compared  %" PRIu64 " words, %" PRIu64 " mentions: %" PRIu64 " differences\n",
              figures.index.words, figures.index.mentions, figures.index.differences);
  std::printf("verdict   %s\n",
              figures.right() ? "every answer was right, and so is the index" : "WRONG");
}

}  // namespace

int main(int argc, char** argv) try {
  const auto options = parse(argc, argv);
  if (!options) return 2;
  const Corpus corpus = Corpus::read(options->roots, options->megabytes << 20);
  std::printf("text      %.1f MiB of %zu files, %zu documents%s\n",
              static_cast<double>(corpus.bytes()) / (1 << 20), corpus.files(),
              corpus.documents().size(), corpus.made_up() ? " (filled up with made-up words)" : "");
  std::fflush(stdout);
  const LiveFigures figures = run_live(corpus, options->live);
  print(figures);
  return figures.right() ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "live_index: %s\n", error.what());
  return 3;
}
