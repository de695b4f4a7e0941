#include "store/campaign/readers.hpp"

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
#include <vector>

#include <pagetrap/store/snapshot.hpp>

#include "store/campaign/workload.hpp"
#include "store/disk/file_disk.hpp"
#include "store/store_state.hpp"

namespace campaign {

using namespace pagetrap::store;
using pagetrap::describe;
using pagetrap::Result;

namespace {

using Clock = std::chrono::steady_clock;

/// What all processes know.
struct Board {
  std::atomic<bool> stop;
  std::atomic<std::uint64_t> committed;  // steps that are in the file
  std::atomic<std::uint64_t> opened;
  std::atomic<std::uint64_t> refreshed;
  std::atomic<std::uint64_t> checkpoints;
  std::atomic<bool> is_wrong;
  char wrong[400];
};

[[noreturn]] void fail(Board& board, const std::string& what) {
  if (!board.is_wrong.exchange(true))
    std::strncpy(board.wrong, what.c_str(), sizeof board.wrong - 1);
  ::_exit(1);
}

StoreOptions options_of(std::uint64_t random) {
  StoreOptions options;
  options.detect = random % 2 == 0 ? Detect::traps : Detect::best;
  options.log_bytes = std::size_t{256} << 10;
  options.reserve_bytes = std::size_t{64} << 20;
  if (random / 2 % 4 == 0) options.persistence = Persistence::cache_lines;
  return options;
}

/// A file that says nothing of readers.
class UnsharedDisk final : public Disk {
 public:
  explicit UnsharedDisk(std::unique_ptr<Disk> below) : below_(std::move(below)) {}
  Outcome read(std::span<std::byte> to, std::uint64_t offset) noexcept
      PAGETRAP_SIGNAL_SAFE override {
    return below_->read(to, offset);
  }
  Outcome write(std::span<const std::byte> from, std::uint64_t offset) noexcept override {
    return below_->write(from, offset);
  }
  Outcome write_durably(std::span<const std::byte> from, std::uint64_t offset) noexcept override {
    return below_->write_durably(from, offset);
  }
  Outcome sync() noexcept override { return below_->sync(); }
  Outcome extend(std::uint64_t size) noexcept override { return below_->extend(size); }
  [[nodiscard]] std::uint64_t size() const noexcept override { return below_->size(); }
  [[nodiscard]] std::size_t unit() const noexcept override { return below_->unit(); }

 private:
  std::unique_ptr<Disk> below_;
};

Store open_for_writing(const std::string& path, const ReaderOptions& options, std::uint64_t random,
                       Board& board) {
  if (!options.keep_nothing) {
    auto store = Store::open(path, options_of(random));
    if (!store) fail(board, "writer: " + describe(store.error()));
    return std::move(*store);
  }
  auto disk = FileDisk::open(path, FileUse::existing);
  if (!disk) fail(board, "writer: " + describe(disk.error()));
  auto state =
      StoreState::open(std::make_unique<UnsharedDisk>(std::move(*disk)), options_of(random));
  if (!state) fail(board, "writer: " + describe(state.error()));
  return StoreState::as_store(std::move(*state));
}

// Steps until it is killed or told to stop. Nothing is acknowledged: the page cache survives.
[[noreturn]] void be_writer(const std::string& path, const ReaderOptions& options,
                            std::uint64_t random, Board& board) {
  {
    Store store = open_for_writing(path, options, random, board);
    World& world = *store.root<World>("world").value();
    Random choose(random);
    while (!board.stop.load()) {
      const std::uint64_t number = world.step + 1;
      const auto position = step_in(store, world, options.seed, number);
      if (!position) fail(board, "writer: " + describe(position.error()));
      if (choose() % 4 != 0) continue;
      if (const auto done = store.wait(*position); !done)
        fail(board, "writer: " + describe(done.error()));
      board.committed.store(number);
      // The model takes longer for a step than the store.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (choose() % 8 != 0) continue;
      if (const auto done = store.checkpoint(); !done)
        fail(board, "writer: " + describe(done.error()));
      board.checkpoints.fetch_add(1);
    }
  }
  ::_exit(0);
}

// What a snapshot shows, by the model; its step.
std::uint64_t verify(const Snapshot& snapshot, Model& model, std::uint64_t least, Board& board) {
  // Pages of two commits may make a list without an end: then this process has none of its own.
  constexpr unsigned kSeconds = 30;
  ::alarm(kSeconds);
  const auto world = snapshot.find<World>("world");
  if (!world) fail(board, "reader: " + describe(world.error()));
  if (*world == nullptr) {
    if (least != 0) fail(board, "reader: nothing is there, " + std::to_string(least) + " was");
    return 0;
  }
  const std::uint64_t step = (*world)->step;
  if (step < least)
    fail(board, "reader: step " + std::to_string(step) + " after " + std::to_string(least));
  if (step > board.committed.load() + 100'000) fail(board, "reader: an impossible step");
  if (digest(**world) != model.after(step))
    fail(board, "reader: what is there is not what step " + std::to_string(step) + " leaves");
  return step;
}

[[noreturn]] void be_reader(const std::string& path, const ReaderOptions& options,
                            std::uint64_t random, Board& board) {
  Model model(options.seed);
  Random choose(random);
  while (!board.stop.load()) {
    std::uint64_t least = board.committed.load();
    auto opened = Snapshot::open(path);
    if (!opened) fail(board, "reader: " + describe(opened.error()));
    least = verify(*opened, model, least, board);
    board.opened.fetch_add(1);
    for (std::uint64_t i = choose() % 12; i > 0 && !board.stop.load(); --i) {
      // Half of them have not read every page before the next checkpoint writes it.
      if (choose() % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(choose() % 20));
      static_cast<void>(verify(*opened, model, least, board));
      const std::uint64_t floor = std::max(least, board.committed.load());
      const auto newer = opened->refresh();
      if (!newer) fail(board, "reader: " + describe(newer.error()));
      // Before anything of it is loaded checkpoints go over it.
      if (choose() % 3 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(choose() % 30));
      least = verify(*opened, model, floor, board);
      board.refreshed.fetch_add(*newer ? 1 : 0);
    }
  }
  ::_exit(0);
}

template <class Work>
pid_t start(Work&& work) {
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork");
  if (child == 0) {
    try {
      work();
    } catch (...) {
    }
    ::_exit(1);
  }
  return child;
}

// Whether it ended as it should.
bool end(pid_t child, int signal) {
  if (signal != 0) ::kill(child, signal);
  int status = 0;
  ::waitpid(child, &status, 0);
  return signal != 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace

ReaderResult read_while_written(const ReaderOptions& options) {
  std::string folder =
      (std::filesystem::temp_directory_path() / "pagetrap-readers-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) throw std::runtime_error(folder);
  const std::string path = folder + "/read.store";
  void* const memory =
      ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("mmap");
  auto& board = *new (memory) Board{};
  ReaderResult result;
  Random random(options.seed);
  // So that readers find a file.
  end(start([&] {
        {
          Store store = Store::open(path, options_of(0)).value();
          store.root<World>("world").value();
        }
        ::_exit(0);
      }),
      0);
  const auto write = [&] {
    const std::uint64_t seed = random();
    return start([&] { be_writer(path, options, seed, board); });
  };
  const auto read = [&] {
    const std::uint64_t seed = random();
    return start([&] { be_reader(path, options, seed, board); });
  };
  pid_t writer = write();
  std::vector<pid_t> readers;
  for (unsigned i = 0; i < options.readers; ++i) readers.push_back(read());
  const auto stop = Clock::now() + std::chrono::seconds(options.seconds);
  while (Clock::now() < stop && !board.is_wrong.load()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + random() % 150));
    if (options.kill_readers && random() % 3 == 0) {
      pid_t& reader = readers[random() % readers.size()];
      end(reader, SIGKILL);
      reader = read();
      result.readers_killed += 1;
    } else if (options.kill_writers && random() % 2 == 0) {
      end(writer, SIGKILL);
      writer = write();
      result.writers_killed += 1;
    }
  }
  board.stop.store(true);
  bool ended = true;
  for (const pid_t reader : readers) ended = end(reader, 0) && ended;
  ended = end(writer, 0) && ended;
  result.opened = board.opened.load();
  result.refreshed = board.refreshed.load();
  result.checkpoints = board.checkpoints.load();
  result.steps = board.committed.load();
  result.wrong = board.wrong;
  if (result.wrong.empty() && !ended) result.wrong = "a process came to another end";
  // Readers may have been the last to leave: then the next writer finds that nobody needs it.
  if (result.wrong.empty() && !end(start([&] {
                                     {
                                       const Store store = Store::open(path, options_of(0)).value();
                                     }
                                     ::_exit(0);
                                   }),
                                   0))
    result.wrong = "it cannot be opened any more";
  result.history_left = std::filesystem::exists(path + ".history");
  ::munmap(memory, sizeof(Board));
  if (result.wrong.empty() || options.keep_nothing) {
    std::filesystem::remove_all(folder);
  } else {
    result.wrong += " (kept: " + path + ")";
  }
  return result;
}

}  // namespace campaign
