// The campaigns as a program; tests/store/run builds and runs it.
//
//   store_campaign power --states 10000 --seed 1     states after power failures, and seeded bugs
//   store_campaign sqlite --states 2000 --seed 1     the same states under SQLite, as a control
//   store_campaign flip  --flips 10000 --seed 1      single damaged bytes
//   store_campaign kill  --kills 2000 --seconds 900  SIGKILL
//   store_campaign readers --seconds 60              snapshots, and writers and readers killed
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <string>
#include <string_view>

#include "store/campaign/flips.hpp"
#include "store/campaign/kills.hpp"
#include "store/campaign/power.hpp"
#include "store/campaign/readers.hpp"
#include "store/campaign/sqlite/power.hpp"

namespace {

using namespace campaign;
using pagetrap::store::Bug;
using pagetrap::store::Detect;
using pagetrap::store::Tearing;

constexpr const char* kTearings[] = {"whole writes", "512 bytes", "16 bytes", "512 bytes, rubbish"};
constexpr const char* kBugs[] = {"",
                                 "the log is not flushed",
                                 "the staging area is not flushed",
                                 "pages are not flushed",
                                 "the superblock comes first",
                                 "no staging area",
                                 "both superblocks at once"};

int fail_power_of_all(std::uint64_t states, std::uint64_t seed) {
  int status = 0;
  for (const Tearing tearing :
       {Tearing::sectors, Tearing::none, Tearing::words, Tearing::garbage}) {
    PowerOptions options;
    // Most of them with what disks do.
    options.states = tearing == Tearing::sectors ? states : states / 4;
    options.seed = seed + static_cast<std::uint64_t>(tearing);
    options.tearing = tearing;
    const PowerResult result = fail_power(options);
    std::printf("power      %6" PRIu64 " states of %" PRIu64 " runs, torn at %s: %" PRIu64
                " wrong%s%s\n",
                result.states, result.recordings, kTearings[static_cast<int>(tearing)],
                result.failures, result.failures != 0 ? ": " : "", result.first_failure.c_str());
    if (result.failures != 0) status = 1;
    std::fflush(stdout);
  }
  for (int bug = 1; bug < 7; ++bug) {
    PowerOptions options;
    options.states = 5'000;
    options.seed = seed;
    options.bug = static_cast<Bug>(bug);
    if (options.bug == Bug::one_superblock_flush) options.tearing = Tearing::words;
    const PowerResult result = fail_power(options);
    std::printf("control    %s: %s after %" PRIu64 " states\n", kBugs[bug],
                result.failures != 0 ? "found" : "NOT FOUND", result.states);
    if (result.failures == 0) status = 1;
    std::fflush(stdout);
  }
  return status;
}

int flip(std::uint64_t flips, std::uint64_t seed) {
  const FlipResult result = flip_bytes({flips, seed});
  std::printf("flips      %6" PRIu64 " single bytes: %" PRIu64 " refused, %" PRIu64
              " harmless, %" PRIu64 " silent%s%s\n",
              result.flips, result.refused, result.harmless, result.silent,
              result.silent != 0 ? ": " : "", result.first_silent.c_str());
  return result.silent == 0 && result.refused != 0 ? 0 : 1;
}

int kill(std::uint64_t kills, std::uint64_t seconds, std::uint64_t seed) {
  const KillResult result = kill_again_and_again({kills, seconds, seed});
  std::printf("kills      %6" PRIu64 " SIGKILLs, %" PRIu64 " while opening: %" PRIu64
              " commits acknowledged, %" PRIu64 " found in logs%s%s\n",
              result.kills, result.while_opening, result.acknowledged, result.recovered,
              result.wrong.empty() ? "" : ": ", result.wrong.c_str());
  return result.wrong.empty() ? 0 : 1;
}

// And the control: without before-images something that no commit left must be seen.
int readers(std::uint64_t seconds, std::uint64_t seed) {
  ReaderOptions options;
  options.seconds = seconds;
  options.seed = seed;
  const ReaderResult result = read_while_written(options);
  std::printf("readers    %6" PRIu64 " snapshots and %" PRIu64 " refreshed, %" PRIu64
              " steps, %" PRIu64 " writers and %" PRIu64 " readers killed%s%s%s\n",
              result.opened, result.refreshed, result.steps, result.writers_killed,
              result.readers_killed, result.wrong.empty() ? "" : ": ", result.wrong.c_str(),
              result.history_left ? "; the history is left" : "");
  std::fflush(stdout);
  if (!result.wrong.empty() || result.history_left) return 1;
  options.keep_nothing = true;
  options.kill_readers = options.kill_writers = false;
  options.seconds = 60;
  const ReaderResult control = read_while_written(options);
  const bool found = !control.wrong.empty();
  std::printf("control    nothing is kept for snapshots: %s after %" PRIu64 "\n",
              found ? "found" : "NOT FOUND", control.opened + control.refreshed);
  return found ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
  std::map<std::string, std::uint64_t> numbers{
      {"--states", 10'000}, {"--flips", 10'000}, {"--kills", 2'000},
      {"--seconds", 900},   {"--seed", 1},
  };
  const std::string_view what = argc > 1 ? argv[1] : "";
  bool usage =
      what != "power" && what != "sqlite" && what != "flip" && what != "kill" && what != "readers";
  for (int i = 2; i < argc && !usage; i += 2) {
    const auto number = numbers.find(argv[i]);
    usage = number == numbers.end() || i + 1 == argc;
    if (usage) break;
    const char* const end = argv[i + 1] + std::strlen(argv[i + 1]);
    const auto [stop, error] = std::from_chars(argv[i + 1], end, number->second);
    usage = error != std::errc{} || stop != end;
  }
  if (usage) {
    std::fputs(
        "usage: store_campaign power [--states N] | sqlite [--states N] | flip [--flips N] |\n"
        "       kill [--kills N] [--seconds S] | readers [--seconds S]; each [--seed X]\n",
        stderr);
    return 2;
  }
  const std::uint64_t seed = numbers["--seed"];
  if (what == "power") return fail_power_of_all(numbers["--states"], seed);
  if (what == "sqlite") return sqlite_controls(numbers["--states"], seed);
  if (what == "flip") return flip(numbers["--flips"], seed);
  if (what == "readers") return readers(numbers["--seconds"], seed);
  return kill(numbers["--kills"], numbers["--seconds"], seed);
} catch (const std::exception& error) {
  std::fprintf(stderr, "store_campaign: %s\n", error.what());
  return 1;
}
