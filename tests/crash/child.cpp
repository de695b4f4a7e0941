#include "child.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include <pagetrap/checkpoint/checkpoint.hpp>

#include "state.hpp"

namespace crash {
namespace {

using namespace pagetrap::checkpoint;

struct Lot {
  CheckpointerOptions options;
  RestoreMode mode = RestoreMode::eager;
  PeriodicOptions series;
};

/// What this round is like.
Lot draw(const ChildOptions& options) {
  const std::uint64_t random = mix(options.seed, options.round);
  const auto one_of = [&](unsigned shift, std::uint64_t count) {
    return (random >> shift) % count;
  };
  Lot lot;
  lot.options.compression =
      std::array{Compression::none, Compression::lz4, Compression::zstd}[one_of(0, 3)];
  lot.options.cut = one_of(8, 4) == 0 ? Cut::write_protect : Cut::automatic;
  lot.options.kernel_accesses = one_of(16, 2) == 0;
  lot.options.threads = static_cast<unsigned>(one_of(20, 4));
  lot.mode = std::array{RestoreMode::eager, RestoreMode::lazy, RestoreMode::mapped}[one_of(24, 3)];
  lot.series.directory = options.directory;
  lot.series.name = "state";
  lot.series.every = std::chrono::milliseconds(1 + one_of(32, 10));
  lot.series.keep = static_cast<unsigned>(1 + one_of(40, 3));
  lot.series.full_every = static_cast<unsigned>(1 + one_of(48, 5));
  return lot;
}

void tell(Ledger& ledger, const std::string& words) {
  words.copy(ledger.problem.data(), ledger.problem.size() - 1);
}

/// Empty, or what is wrong.
std::string check_restored(const State& state, const Ledger& ledger, std::uint64_t generation) {
  const std::uint64_t expected = ledger.counter_of[generation].load();
  if (state.counter != expected)
    return "generation " + std::to_string(generation) + " has counter " +
           std::to_string(state.counter) + " and not " + std::to_string(expected);
  const Verdict verdict = check(state, state.counter);
  if (!verdict.right)
    return "generation " + std::to_string(generation) + ", after " + std::to_string(state.counter) +
           " steps: " + std::to_string(verdict.wrong_pages) + " pages are wrong, the first is " +
           std::to_string(verdict.first_wrong) + ", the map is " +
           (verdict.map_right ? "right" : "wrong");
  if (check(state, state.counter + 1).right) return "the check does not see a step more";
  return {};
}

State* restore(Checkpointer& checkpointer, const ChildOptions& options, RestoreMode mode,
               Ledger& ledger, Arena*& arena) {
  const auto restored = checkpointer.restore(options.directory, mode);
  if (!restored && restored.error().number == ENOENT && ledger.committed.load() == 0) {
    // More addresses than bytes: the map grows, and the pages are one block.
    arena = checkpointer.arena("state", options.megabytes << 22).value();
    State* const state =
        arena->make<State>(arena->resource(), options.seed, (options.megabytes << 20) / kPage);
    arena->set_root(state);
    return state;
  }
  const std::uint64_t generation = restored.value().generation;
  arena = checkpointer.find_arena("state");
  auto* const state = arena->root<State>();
  std::string problem = check_restored(*state, ledger, generation);
  if (const auto complete = checkpointer.finish_restore(); !complete)
    problem = pagetrap::describe(complete.error());
  if (!problem.empty()) {
    tell(ledger, problem);
    return nullptr;
  }
  ledger.committed.store(generation);
  ledger.restored.store(generation);
  return state;
}

}  // namespace

Ledger* map_ledger(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) throw std::system_error(errno, std::generic_category(), path);
  void* at = MAP_FAILED;
  if (::ftruncate(file, sizeof(Ledger)) == 0)
    at = ::mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ::close(file);
  if (at == MAP_FAILED) throw std::system_error(errno, std::generic_category(), path);
  return static_cast<Ledger*>(at);
}

int be_child(const ChildOptions& options) {
  Ledger& ledger = *map_ledger(options.ledger);
  try {
    Lot lot = draw(options);
    auto created = Checkpointer::create(lot.options);
    if (!created) {  // this machine has no such cut
      lot.options.cut = Cut::automatic;
      created = Checkpointer::create(lot.options);
    }
    auto checkpointer = std::move(created).value();
    Arena* arena = nullptr;
    State* const state = restore(checkpointer, options, lot.mode, ledger, arena);
    if (state == nullptr) return 1;
    ledger.keep.store(lot.series.keep);

    std::mutex lock;
    checkpointer.set_hooks({[&] {
                              lock.lock();
                              const std::uint64_t next = ledger.committed.load() + 1;
                              ledger.counter_of[next % Ledger::kMost].store(state->counter);
                            },
                            [&] { lock.unlock(); },
                            {}});
    lot.series.done = [&](const pagetrap::Result<Statistics>& saved) {
      if (!saved) {
        tell(ledger, "a checkpoint failed: " + pagetrap::describe(saved.error()));
        std::_Exit(1);
      }
      ledger.committed.store(saved->generation);
      ledger.commits.fetch_add(1);
    };
    checkpointer.start_periodic(lot.series).value();
    ledger.ready.store(true);
    for (;;) {
      {
        const std::lock_guard guard(lock);
        state->step();
      }
      if (state->counter % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
  } catch (const std::exception& error) {
    tell(ledger, error.what());
    return 1;
  }
}

}  // namespace crash
