#include "store/campaign/power.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>

#include "store/campaign/workload.hpp"
#include "store/store_state.hpp"

namespace campaign {

using namespace pagetrap::store;
using pagetrap::describe;

namespace {

// A log of two laps in a recording.
constexpr std::size_t kLog = std::size_t{128} << 10;
constexpr std::size_t kReserve = std::size_t{32} << 20;
constexpr std::size_t kStaged = 24;  // pages: a checkpoint takes several rounds
constexpr std::uint64_t kStatesOfOne = 100;

StoreOptions options_of(const PowerOptions& options) {
  StoreOptions made;
  made.detect = options.detect;
  made.log_bytes = kLog;
  made.reserve_bytes = kReserve;
  if (options.tearing == Tearing::garbage || options.tearing == Tearing::words)
    made.damaged_tail = DamagedTail::discard;
  return made;
}

class Campaign {
 public:
  explicit Campaign(const PowerOptions& options)
      : options_(options), random_(options.seed), model_(options.seed) {}

  PowerResult run() {
    start_afresh();
    while (result_.states < options_.states && result_.failures < options_.most_failures) {
      record();
      explore();
    }
    return result_;
  }

 private:
  void start_afresh() {
    MemoryDisk disk;
    const Outcome outcome = StoreState::format(disk, options_of(options_), kStaged);
    if (failed(outcome)) throw std::runtime_error(describe(outcome));
    medium_ = disk.contents();
    acknowledged_ = 0;
  }

  Store open(std::unique_ptr<Disk> disk) {
    auto state = StoreState::open(std::move(disk), options_of(options_));
    if (!state) throw std::runtime_error(describe(state.error()));
    return StoreState::as_store(std::move(*state));
  }

  // A run, from what is on the medium.
  void record() {
    record_.operations.clear();
    before_ = medium_;
    before_acknowledged_ = acknowledged_;
    Store store = open(std::make_unique<RecordingDisk>(record_, medium_));
    const Superblock& block = StoreState::of(store).superblock();
    places_ = {block.staging_offset, block.log_offset, block.data_offset};
    World& world = *store.root<World>("world").value();
    std::uint64_t waiting = 0;
    std::uint64_t number = world.step;
    for (std::uint64_t i = 0; i < options_.steps; ++i) {
      const auto position = step_in(store, world, options_.seed, ++number);
      if (!position) throw std::runtime_error(describe(position.error()));
      // Some wait for each of theirs, others for several at once.
      waiting += 1;
      if (random_() % 3 == 0 || waiting > 5) {
        const auto durable = store.wait(*position);
        if (!durable) throw std::runtime_error(describe(durable.error()));
        record_.acknowledge(number);
        waiting = 0;
      }
      if (random_() % 40 == 0)
        if (const auto done = store.checkpoint(); !done)
          throw std::runtime_error(describe(done.error()));
    }
    most_ = number;
    // One in four ends as it should.
    if (random_() % 4 == 0) {
      if (const auto done = store.close(); !done) throw std::runtime_error(describe(done.error()));
      record_.acknowledge(number);
    } else {
      StoreState::of(store).abandon_file();
    }
    result_.recordings += 1;
  }

  void explore() {
    const auto operations = with_bug(record_.operations, places_, options_.bug);
    const PowerFailure failure(operations, before_);
    for (std::uint64_t i = 0; i < kStatesOfOne && result_.states < options_.states; ++i) {
      PowerFailure::State state = failure.choose(RandomWords(random_), options_.tearing);
      result_.states += 1;
      const std::uint64_t acknowledged = std::max(state.acknowledged, before_acknowledged_);
      const std::string wrong = options_.bug == Bug::none ? look_at(state, acknowledged)
                                                          : look_in_child(state, acknowledged);
      if (!wrong.empty()) {
        result_.failures += 1;
        if (result_.first_failure.empty())
          result_.first_failure = "operation " + std::to_string(state.at) + ": " + wrong;
        if (result_.failures >= options_.most_failures) return;
      }
    }
    // With a bug, what is on the medium may be wrong: every recording begins with a sound one.
    if (options_.bug != Bug::none || random_() % 8 == 0) {
      start_afresh();
      return;
    }
    const PowerFailure::State next = failure.choose(RandomWords(random_), options_.tearing);
    medium_ = next.contents;
    acknowledged_ = std::max(next.acknowledged, before_acknowledged_);
  }

  // Contents that are wrong may lead anywhere.
  std::string look_in_child(const PowerFailure::State& state, std::uint64_t acknowledged) {
    const pid_t child = ::fork();
    if (child < 0) throw std::runtime_error("fork");
    if (child == 0) {
      ::signal(SIGALRM, SIG_DFL);
      ::alarm(20);
      ::_exit(look_at(state, acknowledged).empty() ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (status == 0) return "";
    return WIFSIGNALED(status) ? "the checker died" : "wrong";
  }

  std::string look_at(const PowerFailure::State& state, std::uint64_t acknowledged) {
    auto opened =
        StoreState::open(std::make_unique<MemoryDisk>(state.contents), options_of(options_));
    if (!opened) return describe(opened.error());
    // Everything, not only what the containers touch; and this process may not end by a signal.
    const Outcome verified = (*opened)->verify_all();
    if (failed(verified)) return describe(verified);
    Store store = StoreState::as_store(std::move(*opened));
    std::string wrong = check(store, model_, acknowledged, most_);
    StoreState::of(store).abandon_file();
    return wrong;
  }

  PowerOptions options_;
  Random random_;
  Model model_;
  Record record_;
  Places places_;
  Bytes medium_;
  Bytes before_;
  std::uint64_t acknowledged_ = 0;
  std::uint64_t before_acknowledged_ = 0;
  std::uint64_t most_ = 0;
  PowerResult result_;
};

}  // namespace

PowerResult fail_power(const PowerOptions& options) { return Campaign(options).run(); }

}  // namespace campaign
