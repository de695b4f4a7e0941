#include "store/campaign/kills.hpp"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "store/campaign/workload.hpp"

namespace campaign {

using namespace pagetrap::store;
using pagetrap::describe;

namespace {

/// What the killed program has told: survives it.
struct Ledger {
  std::atomic<std::uint64_t> acknowledged;
  std::atomic<std::uint64_t> taken;  // the newest step that was begun
  std::atomic<std::uint64_t> recovered;
  std::atomic<bool> ready;
  char problem[400];
};

StoreOptions options_of(std::uint64_t random) {
  StoreOptions options;
  constexpr Detect kDetectors[] = {Detect::traps, Detect::ring, Detect::scan};
  options.detect = kDetectors[random % 3];
  options.log_bytes = std::size_t{256} << 10;
  options.reserve_bytes = std::size_t{64} << 20;
  options.verify_all = true;
  // The page cache survives a kill, whoever has written it.
  if (random / 3 % 4 == 0) options.persistence = Persistence::cache_lines;
  return options;
}

[[noreturn]] void fail(Ledger& ledger, const std::string& what) {
  std::strncpy(ledger.problem, what.c_str(), sizeof ledger.problem - 1);
  ::_exit(1);
}

// Opens, checks, and goes on until it is killed.
[[noreturn]] void be_victim(const std::string& path, std::uint64_t seed, std::uint64_t random,
                            Ledger& ledger) {
  auto opened = Store::open(path, options_of(random));
  if (!opened && opened.error().number == ENOTSUP)
    opened = Store::open(path, options_of(0));  // no ring here
  if (!opened) fail(ledger, describe(opened.error()));
  Store& store = *opened;
  Model model(seed);
  const std::string wrong = check(store, model, ledger.acknowledged.load(), ledger.taken.load());
  if (!wrong.empty()) fail(ledger, wrong);
  ledger.recovered.fetch_add(store.statistics().recovered_commits);
  World& world = *store.root<World>("world").value();
  ledger.ready.store(true);
  Random choose(random);
  for (std::uint64_t number = world.step + 1;; ++number) {
    ledger.taken.store(number);
    const auto position = step_in(store, world, seed, number);
    if (!position) fail(ledger, describe(position.error()));
    if (choose() % 4 == 0) continue;
    if (const auto done = store.wait(*position); !done) fail(ledger, describe(done.error()));
    ledger.acknowledged.store(number);
    if (choose() % 60 == 0)
      if (const auto done = store.checkpoint(); !done) fail(ledger, describe(done.error()));
  }
}

}  // namespace

KillResult kill_again_and_again(const KillOptions& options) {
  constexpr std::uint64_t kFresh = 60;  // rounds with one store: the model begins anew in each
  std::string folder = (std::filesystem::temp_directory_path() / "pagetrap-kills-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) throw std::runtime_error(folder);
  const std::string path = folder + "/killed.store";
  void* const memory =
      ::mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("mmap");
  auto& ledger = *new (memory) Ledger{};
  KillResult result;
  Random random(options.seed);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(options.seconds);
  while (result.kills < options.kills && std::chrono::steady_clock::now() < end) {
    if (result.kills % kFresh == 0) {
      std::filesystem::remove(path);
      result.acknowledged += ledger.acknowledged.load();
      ledger.acknowledged.store(0);
      ledger.taken.store(0);
    }
    const std::uint64_t round = random();
    ledger.ready.store(false);
    const pid_t child = ::fork();
    if (child < 0) throw std::runtime_error("fork");
    if (child == 0) be_victim(path, options.seed + result.kills / kFresh, round, ledger);
    // One in four may not even open.
    const bool early = round % 4 == 0;
    while (!early && !ledger.ready.load() && ::waitpid(child, nullptr, WNOHANG) == 0)
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % (early ? 20'000 : 40'000)));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    result.kills += 1;
    result.while_opening += ledger.ready.load() ? 0 : 1;
    if (ledger.problem[0] != '\0') {
      result.wrong = std::string(ledger.problem) + " (kept: " + path + ")";
      return result;
    }
  }
  result.acknowledged += ledger.acknowledged.load();
  result.recovered = ledger.recovered.load();
  ::munmap(memory, sizeof(Ledger));
  std::filesystem::remove_all(folder);
  return result;
}

}  // namespace campaign
