// Kills a program that saves checkpoints, again and again, at random instants, and looks at what it
// leaves. After each SIGKILL
//   - every image in the directory verifies, with its parents;
//   - the generations that the program knew to be complete and wanted to keep are there;
//   - the newest one, restored by the next run in a fresh process, has exactly the contents that
//     follow from the counter at its cut;
//   - what the killed save left is removed by the next run.
//
//   crash --kills 1000 --seconds 900 --seed 1
//   crash --full-disk
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include <pagetrap/checkpoint/checkpoint.hpp>

#include "child.hpp"
#include "state.hpp"

namespace {

using namespace crash;
using Clock = std::chrono::steady_clock;

constexpr const char* kUsage =
    "usage: crash [--kills N] [--seconds S] [--seed X] [--directory D] | --full-disk [--seed X]\n"
    "exit: 0 all right, 1 an inconsistency, 2 usage, 77 not possible here\n";

struct Options {
  std::uint64_t kills = 1000;
  std::uint64_t seconds = 900;
  ChildOptions child;
  bool is_child = false;
  bool full_disk = false;
};

std::optional<Options> parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--full-disk" || name == "--child") {
      (name == "--child" ? options.is_child : options.full_disk) = true;
      continue;
    }
    if (i + 1 == argc) return std::nullopt;
    const std::string_view value = argv[++i];
    if (name == "--directory" || name == "--ledger") {
      (name == "--ledger" ? options.child.ledger : options.child.directory) = value;
      continue;
    }
    std::uint64_t* const number = name == "--kills"     ? &options.kills
                                  : name == "--seconds" ? &options.seconds
                                  : name == "--seed"    ? &options.child.seed
                                  : name == "--round"   ? &options.child.round
                                                        : nullptr;
    if (number == nullptr) return std::nullopt;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *number);
    if (error != std::errc{} || end != value.data() + value.size()) return std::nullopt;
  }
  return options;
}

struct Tally {
  std::uint64_t kills = 0;
  std::uint64_t in_a_save = 0;     // half an image was left
  std::uint64_t before_ready = 0;  // while it restored
  std::uint64_t unknown = 0;       // complete images that the program did not live to know of
  std::uint64_t restored = 0;
  std::uint64_t commits = 0;
};

/// One run of the program after the other. Throws std::runtime_error when something is wrong.
class Campaign {
 public:
  explicit Campaign(const Options& options)
      : options_(options), ledger_(*map_ledger(options.child.ledger)) {}

  void round(std::uint64_t number) {
    const std::uint64_t random = mix(options_.child.seed, number + (std::uint64_t{1} << 40));
    if (number % kFresh == 0) start_afresh();
    const std::set<std::string> left = half_images();
    ledger_.ready.store(false);
    ledger_.restored.store(0);
    ledger_.commits.store(0);
    ledger_.problem.fill(0);
    const std::uint64_t known = ledger_.committed.load();
    const pid_t child = start(number);
    // One in eight may not even restore.
    const bool early = number % kFresh != 0 && random % 8 == 0;
    if (!early) wait_until_ready(child);
    std::this_thread::sleep_for(
        std::chrono::microseconds((random >> 8) % (early ? 60'000 : 150'000)));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) fail(what_it_said(status));
    ++tally_.kills;
    tally_.commits += ledger_.commits.load();
    if (ledger_.restored.load() != 0) ++tally_.restored;
    if (!ledger_.ready.load()) ++tally_.before_ready;
    if (ledger_.restored.load() != 0 && ledger_.restored.load() < known)
      fail("restored generation " + std::to_string(ledger_.restored.load()) + ", although " +
           std::to_string(known) + " was complete");
    look_at_files(left, known);
  }

  /// The last one's image, too.
  void finish(std::uint64_t number) {
    ledger_.ready.store(false);
    const pid_t child = start(number);
    wait_until_ready(child);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  [[nodiscard]] const Tally& tally() const { return tally_; }

 private:
  // Arbitrary. What the counter leads to is worked out from the beginning in each run.
  static constexpr std::uint64_t kFresh = 100;

  void start_afresh() {
    for (const auto& entry : std::filesystem::directory_iterator(options_.child.directory))
      std::filesystem::remove(entry.path());
    ledger_.committed.store(0);
    there_.clear();
  }

  [[noreturn]] static void fail(const std::string& what) { throw std::runtime_error(what); }

  std::string what_it_said(int status) const {
    if (ledger_.problem[0] != 0) return ledger_.problem.data();
    if (WIFSIGNALED(status))
      return std::string("the program died of ") + strsignal(WTERMSIG(status));
    return "the program ended by itself, " + std::to_string(WEXITSTATUS(status));
  }

  pid_t start(std::uint64_t number) const {
    std::vector<std::string> words{"crash",       "--child",
                                   "--directory", options_.child.directory,
                                   "--ledger",    options_.child.ledger,
                                   "--seed",      std::to_string(options_.child.seed),
                                   "--round",     std::to_string(number)};
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      ::execv("/proc/self/exe", arguments.data());
      ::_exit(127);
    }
    if (child < 0) fail("fork");
    return child;
  }

  void wait_until_ready(pid_t child) const {
    const auto end = Clock::now() + std::chrono::seconds(60);
    while (!ledger_.ready.load()) {
      int status = 0;
      if (::waitpid(child, &status, WNOHANG) == child) fail(what_it_said(status));
      if (Clock::now() > end) {
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        fail("the program hangs in its restore");
      }
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }

  [[nodiscard]] std::vector<std::string> files(const char* ending) const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(options_.child.directory))
      if (entry.path().extension() == ending) found.push_back(entry.path().string());
    return found;
  }
  [[nodiscard]] std::set<std::string> half_images() const {
    const auto found = files(".tmp");
    return {found.begin(), found.end()};
  }

  void look_at_files(const std::set<std::string>& left, std::uint64_t known) {
    const auto half = half_images();
    if (half.size() > 1 + left.size()) fail("more than one half image is left by one program");
    if (!half.empty() && half != left) ++tally_.in_a_save;
    if (ledger_.commits.load() > 0) {
      for (const std::string& file : left)
        if (half.contains(file)) fail(file + " is not removed by the next run");
    }
    std::set<std::uint64_t> there;
    for (const std::string& file : files(".ckpt")) {
      const auto good = pagetrap::checkpoint::verify(file);
      if (!good) fail(file + ": " + pagetrap::describe(good.error()));
      there.insert(good->generation);
    }
    // One more may be complete than the program lived to know of.
    const std::uint64_t committed = ledger_.committed.load();
    const std::uint64_t newest = there.empty() ? 0 : *there.rbegin();
    if (newest < committed)
      fail("generation " + std::to_string(committed) + " was complete and is lost");
    if (newest > committed + 1) fail("there is a generation that nobody made");
    if (newest == committed + 1) ++tally_.unknown;
    // What an earlier run with a smaller `keep` removed was not there before either.
    for (std::uint64_t i = 1; i < std::min(newest, ledger_.keep.load()); ++i)
      if (!there.contains(newest - i) && (newest - i > known || there_.contains(newest - i)))
        fail("generation " + std::to_string(newest - i) + " was to be kept beside " +
             std::to_string(newest) + " and is lost");
    there_ = there;
  }

  const Options& options_;
  Ledger& ledger_;
  Tally tally_;
  std::set<std::uint64_t> there_;  // generations, when we last looked
};

void print(const Tally& tally, double seconds) {
  std::printf("%.0f s: %" PRIu64 " kills, %" PRIu64 " in the middle of an image, %" PRIu64
              " in a restore; %" PRIu64 " checkpoints, %" PRIu64 " complete but unknown; %" PRIu64
              " restores, all right\n",
              seconds, tally.kills, tally.in_a_save, tally.before_ready, tally.commits,
              tally.unknown, tally.restored);
  std::fflush(stdout);
}

int run(Options options) {
  std::string base = options.child.directory;
  if (base.empty()) {
    base = (std::filesystem::temp_directory_path() / "pagetrap-crash.XXXXXX").string();
    if (::mkdtemp(base.data()) == nullptr)
      throw std::system_error(errno, std::generic_category(), base);
  }
  options.child.directory = base + "/images";
  options.child.ledger = base + "/ledger";
  std::filesystem::create_directories(options.child.directory);
  std::printf("seed %" PRIu64 ", %" PRIu64 " kills in at most %" PRIu64 " s\n", options.child.seed,
              options.kills, options.seconds);
  std::fflush(stdout);
  const auto begin = Clock::now();
  const auto passed = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  Campaign campaign(options);
  std::uint64_t number = 0;
  try {
    double told = 0;
    for (; number < options.kills && passed() < static_cast<double>(options.seconds); ++number) {
      campaign.round(number);
      if (passed() < told + 60) continue;
      told = passed();
      print(campaign.tally(), told);
    }
    campaign.finish(number);
  } catch (const std::exception& error) {
    print(campaign.tally(), passed());
    std::printf("WRONG in round %" PRIu64 " of seed %" PRIu64 ": %s\nkept: %s\n", number,
                options.child.seed, error.what(), base.c_str());
    return 1;
  }
  print(campaign.tally(), passed());
  std::filesystem::remove_all(base);
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  const auto options = parse(argc, argv);
  if (!options) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  if (options->is_child) return be_child(options->child);
  if (options->full_disk) return fill_disk(options->child.seed);
  return run(*options);
} catch (const std::exception& error) {
  std::fprintf(stderr, "crash: %s\n", error.what());
  return 1;
}
