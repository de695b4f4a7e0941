// An index of the text on this machine, in standard containers, checkpointed while two threads
// change it. The index is text_index.hpp, the program text_indexer.hpp; here are the options.
//
//   text_index                 indexes and edits for some seconds, a checkpoint each second
//   text_index --crash         kills that in the middle of a save, restores, and proves it right
//   text_index --compare       the same saves by fork() and by instructions
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "text_crash.hpp"
#include "text_indexer.hpp"
#include "text_twins.hpp"

namespace {

using example::Corpus;
using example::Findings;
using example::IndexerOptions;
using example::RestoreMode;

constexpr const char* kUsage =
    "usage: text_index [options] [DIRECTORY WITH TEXT...]\n"
    "  --megabytes N   of text, at most (32), by default from /usr/share/doc and /usr/include\n"
    "  --seconds S     for how long (5)\n"
    "  --every MS      from one checkpoint to the next, in milliseconds (1000)\n"
    "  --into DIR      where checkpoints go, and stay (a directory of its own, removed at the "
    "end)\n"
    "  --crash         kill the indexing process in the middle of a save, restore, compare\n"
    "  --compare       save by pagetrap, by fork() and by instructions\n"
    "exit: 0 all right, 1 not, 2 usage, 3 the system refuses\n";

enum class Task { index, crash, compare, child, verify };

struct Options {
  Task task = Task::index;
  RestoreMode mode = RestoreMode::eager;
  std::size_t megabytes = 32;
  double seconds = 5;
  unsigned every_ms = 1000;
  std::string into;
  std::vector<std::string> roots;
};

double mebibytes(double bytes) { return bytes / (1 << 20); }
double mebibytes(std::uint64_t bytes) { return mebibytes(static_cast<double>(bytes)); }

template <class T>
bool number_in(std::string_view text, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size() && number > 0;
}

bool apply(Options& options, std::string_view name, std::string_view value) {
  if (name == "--megabytes") return number_in(value, options.megabytes) && options.megabytes < 4096;
  if (name == "--seconds") return number_in(value, options.seconds);
  if (name == "--every") return number_in(value, options.every_ms);
  if (name == "--into") {
    options.into = value;
    return !value.empty();
  }
  return false;
}

std::optional<Options> parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (!name.starts_with("-")) {
      options.roots.emplace_back(name);
    } else if (name == "--crash") {
      options.task = Task::crash;
    } else if (name == "--compare") {
      options.task = Task::compare;
    } else if (name == "--be-killed") {  // the processes that --crash starts
      options.task = Task::child;
    } else if (name == "--verify-eager" || name == "--verify-lazy") {
      options.task = Task::verify;
      options.mode = name == "--verify-lazy" ? RestoreMode::lazy : RestoreMode::eager;
    } else if (i + 1 < argc && apply(options, name, argv[i + 1])) {
      ++i;
    } else {
      std::fputs(kUsage, stderr);
      return std::nullopt;
    }
  }
  if (options.roots.empty()) options.roots = {"/usr/share/doc", "/usr/include"};
  return options;
}

/// A directory that is there as long as this is, unless the user named it.
class WorkDirectory {
 public:
  explicit WorkDirectory(const std::string& named) : path_(named), named_(!named.empty()) {
    if (named_) {
      std::filesystem::create_directories(path_);
      return;
    }
    path_ = (std::filesystem::temp_directory_path() / "text_index.XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr)
      throw std::system_error(errno, std::generic_category(), path_);
  }
  ~WorkDirectory() {
    std::error_code ignored;
    if (!named_) std::filesystem::remove_all(path_, ignored);
  }
  WorkDirectory(const WorkDirectory&) = delete;
  WorkDirectory& operator=(const WorkDirectory&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool named_;
};

void print_corpus(const Corpus& corpus) {
  std::printf("text        %.1f MiB of %zu files, %zu documents%s\n",
              mebibytes(std::uint64_t{corpus.bytes()}), corpus.files(), corpus.documents().size(),
              corpus.made_up() ? " (filled up with made-up words)" : "");
}

void print_cut(std::uint64_t number, const example::CutRecord& cut) {
  std::printf("checkpoint  %2" PRIu64
              "  %-9s %5.1f of %.1f MiB, on disk after %4.0f ms; cut %4.0f us; "
              "%" PRIu64 " faults\n",
              number, cut.incremental ? "increment" : "full", mebibytes(cut.image_bytes),
              mebibytes(cut.heap_bytes), cut.save_us / 1e3, cut.frozen_us, cut.faults);
}

IndexerOptions indexer(const Options& options, const std::string& directory) {
  IndexerOptions made;
  made.directory = directory;
  made.every = std::chrono::milliseconds(options.every_ms);
  return made;
}

int index_for_a_while(const Options& options, const Corpus& corpus) {
  const WorkDirectory work(options.into);
  print_corpus(corpus);
  std::atomic<bool> stop = false;
  auto indexing = std::async(std::launch::async, [&] {
    example::index_until(corpus, indexer(options, work.path()), stop);
  });
  const example::Records records(work.path());
  std::uint64_t told = records.ledger->commits.load();
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::duration<double>(options.seconds);
  while (std::chrono::steady_clock::now() < end &&
         indexing.wait_for(std::chrono::milliseconds(10)) == std::future_status::timeout) {
    for (; told < records.ledger->commits.load(); ++told)
      print_cut(told + 1, records.ledger->records[told % example::Ledger::kMost]);
    std::fflush(stdout);
  }
  stop = true;
  indexing.get();
  if (records.ledger->failures.load() > 0) {
    std::fprintf(stderr, "text_index: %s\n", records.ledger->problem.data());
    return 1;
  }
  return told > 0 ? 0 : 1;
}

/// This program again, in a process that knows nothing of this one.
pid_t start(const Options& options, const std::string& directory, const char* task) {
  std::vector<std::string> words{"text_index",  task,
                                 "--megabytes", std::to_string(options.megabytes),
                                 "--every",     std::to_string(options.every_ms),
                                 "--into",      directory};
  words.insert(words.end(), options.roots.begin(), options.roots.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    ::execv("/proc/self/exe", arguments.data());
    ::_exit(3);
  }
  return child;
}

void print_findings(const Findings& found, RestoreMode mode) {
  std::printf("restored    generation %" PRIu64
              ", %s: first answer after %.1f ms, all there after "
              "%.0f ms\n",
              found.generation, mode == RestoreMode::lazy ? "lazily" : "eagerly",
              found.first_answer_ms, found.all_there_ms);
  std::printf("replayed    %" PRIu64 " + %" PRIu64 " updates from the journals in %.0f ms; %" PRIu64
              " later ones are not in the image\n",
              found.applied[0], found.applied[1], found.replay_ms, found.journal_beyond);
  std::printf("compared    %" PRIu64 " words, %" PRIu64 " postings: %" PRIu64 " differences\n",
              found.comparison.words, found.comparison.postings, found.comparison.differences);
  if (!found.is_last_cut) std::puts("            NOT the last complete cut");
  if (!found.control_differs) std::puts("            the comparison does not see an update more");
  if (!found.goes_on) std::puts("            it does NOT go on from there");
}

int verify(const Options& options, const Corpus& corpus) {
  const Findings found = example::verify_restored(corpus, options.into, options.mode,
                                                  options.mode == RestoreMode::eager);
  print_findings(found, options.mode);
  return found.right() ? 0 : 1;
}

int crash(const Options& options, const Corpus& corpus) {
  const WorkDirectory work(options.into);
  if (!options.into.empty() && !std::filesystem::is_empty(work.path()))
    throw std::runtime_error(options.into + " is not empty");
  print_corpus(corpus);
  const auto crashed = example::crash_in_the_middle(
      {.directory = work.path()}, [&] { return start(options, work.path(), "--be-killed"); });
  if (!crashed.problem.empty()) throw std::runtime_error(crashed.problem);
  {
    const example::Records records(work.path());
    for (std::uint64_t i = 0; i < crashed.complete; ++i)
      print_cut(i + 1, records.ledger->records[i % example::Ledger::kMost]);
  }
  std::printf("SIGKILL     in the middle of checkpoint %" PRIu64 ": %.1f MiB of it are left\n",
              crashed.complete + 1, mebibytes(crashed.left.bytes));
  bool right = true;
  for (const char* const task : {"--verify-lazy", "--verify-eager"}) {
    int status = 0;
    const pid_t child = start(options, work.path(), task);
    right = child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status) &&
            WEXITSTATUS(status) == 0 && right;
  }
  // The second one has made a checkpoint of its own.
  const bool clean = example::unfinished_images(work.path()).files == 0;
  if (!clean) std::puts("            the half image is STILL there");
  std::printf("verdict     %s\n", right && clean
                                      ? "the restored index is the index at the last complete cut"
                                      : "FAILED");
  return right && clean ? 0 : 1;
}

void print_twin(const char* name, const example::TwinFigures& figures) {
  std::printf("%-22s %8.0f %10.1f %8.1f %8.1f %8.0f %10.0f %10.0f\n", name, figures.stall_us,
              figures.slowest_update_us / 1e3, mebibytes(figures.extra_bytes),
              mebibytes(figures.file_bytes), figures.save_ms, figures.quiet_rate,
              figures.saving_rate);
  std::fflush(stdout);
}

int compare_twins(const Options& options, const Corpus& corpus) {
  const WorkDirectory work(options.into);
  print_corpus(corpus);
  const example::TwinOptions how{.directory = work.path()};
  std::printf("%-22s %8s %10s %8s %8s %8s %10s %10s\n", "", "stall", "slowest", "extra", "file",
              "save", "updates/s", "while");
  std::printf("%-22s %8s %10s %8s %8s %8s %10s %10s\n", "", "us", "update ms", "MiB", "MiB", "ms",
              "", "saving");
  print_twin("pagetrap, full", example::measure_pagetrap(corpus, how, false));
  print_twin("pagetrap, increments", example::measure_pagetrap(corpus, how, true));
  print_twin("fork()", example::measure_fork(corpus, how));
  print_twin("instructions", example::measure_instructions(corpus, how));
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  const auto options = parse(argc, argv);
  if (!options) return 2;
  const Corpus corpus = Corpus::read(options->roots, options->megabytes << 20);
  switch (options->task) {
    case Task::index:
      return index_for_a_while(*options, corpus);
    case Task::crash:
      return crash(*options, corpus);
    case Task::compare:
      return compare_twins(*options, corpus);
    case Task::child: {
      const std::atomic<bool> never = false;
      example::index_until(corpus, indexer(*options, options->into), never);
      return 0;
    }
    case Task::verify:
      return verify(*options, corpus);
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "text_index: %s\n", error.what());
  return 3;
}
