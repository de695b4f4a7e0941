#include "store/campaign/sqlite/power.hpp"

#include <algorithm>
#include <stdexcept>

#include "store/campaign/sqlite/steps.hpp"
#include "store/campaign/sqlite/vfs.hpp"

namespace campaign {

using pagetrap::store::PowerFailure;
using pagetrap::store::RandomWords;
using pagetrap::store::Tearing;

namespace {

constexpr std::uint64_t kStatesOfOne = 100;

class Campaign {
 public:
  explicit Campaign(const SqlitePowerOptions& options)
      : options_(options),
        random_(options.seed),
        // Rubbish in a sector takes what was in it before, and SQLite must know.
        vfs_(options.seed, options.tearing != Tearing::garbage) {}

  SqlitePowerResult run() {
    start_afresh();
    while (result_.states < options_.states) explore(*record());
    return result_;
  }

 private:
  void start_afresh() {
    RecordedFiles files{Medium()};
    vfs_.mount(files);
    StepDatabase(options_.journal, Synchronous::full).create();
    medium_ = files.medium();
    acknowledged_ = 0;
  }

  // A run, from what is on the medium.
  std::unique_ptr<RecordedFiles> record() {
    auto files = std::make_unique<RecordedFiles>(medium_);
    vfs_.mount(*files);
    std::vector<pagetrap::store::Operation>& operations = files->record().operations;
    // One in four ends as it should.
    const bool cut_off = random_() % 4 != 0;
    std::size_t until = 0;
    {
      StepDatabase database(options_.journal, options_.synchronous);
      most_ = database.last_step();
      for (std::uint64_t i = 0; i < options_.steps; ++i) {
        database.take_step(options_.seed, ++most_);
        files->record().acknowledge(most_);
      }
      until = operations.size();
    }
    if (cut_off) operations.resize(until);
    result_.recordings += 1;
    return files;
  }

  void explore(RecordedFiles& files) {
    const PowerFailure failure(files.record().operations, medium_.contents);
    for (std::uint64_t i = 0; i < kStatesOfOne && result_.states < options_.states; ++i) {
      PowerFailure::State state = failure.choose(RandomWords(random_), options_.tearing);
      result_.states += 1;
      const std::uint64_t acknowledged = std::max(state.acknowledged, acknowledged_);
      const std::size_t at = state.at;
      const std::string wrong = look_at(files.medium(std::move(state)), acknowledged);
      if (!wrong.empty() && result_.first_wrong.empty())
        result_.first_wrong = "operation " + std::to_string(at) + ": " + wrong;
    }
    if (!may_go_on() || random_() % 8 == 0) {
      start_afresh();
      return;
    }
    PowerFailure::State next = failure.choose(RandomWords(random_), options_.tearing);
    acknowledged_ = std::max(next.acknowledged, acknowledged_);
    medium_ = files.medium(std::move(next));
  }

  // From a medium that power failed on, and not from a sound one?
  [[nodiscard]] bool may_go_on() const {
    // Without flushes, or after a failure, it may be wrong.
    if (options_.synchronous != Synchronous::full || result_.lost + result_.corrupt != 0)
      return false;
    // SQLite fills the log's last sector with a copy of the commit's last frame, so that it writes
    // to none that holds a commit. But if power fails before all of that copy is there, it takes
    // the commit itself for the end, goes on in the middle of its last sector, and rubbish there is
    // the loss of the commit: a failure after a failure, 1 in 2500 states (SQLite 3.40.1).
    return options_.tearing != Tearing::garbage || options_.journal != Journal::wal;
  }

  std::string look_at(Medium medium, std::uint64_t acknowledged) {
    RecordedFiles files(std::move(medium));
    vfs_.mount(files);
    std::uint64_t last = 0;
    std::string wrong;
    try {
      StepDatabase database(options_.journal, options_.synchronous);
      wrong = database.check(options_.seed);
      last = database.last_step();
    } catch (const std::runtime_error& error) {
      wrong = error.what();
    }
    if (wrong.empty() && last > most_) wrong = "step " + std::to_string(last) + " was never taken";
    if (!wrong.empty()) {
      result_.corrupt += 1;
      return wrong;
    }
    if (last < acknowledged) {
      result_.lost += 1;
      return "step " + std::to_string(last) + " is there, " + std::to_string(acknowledged) +
             " was acknowledged";
    }
    if (last > acknowledged) result_.ahead += 1;
    return "";
  }

  SqlitePowerOptions options_;
  Random random_;
  Vfs vfs_;
  Medium medium_;
  std::uint64_t acknowledged_ = 0;
  std::uint64_t most_ = 0;
  SqlitePowerResult result_;
};

}  // namespace

const char* name(Synchronous synchronous) noexcept {
  constexpr const char* kNames[] = {"OFF", "NORMAL", "FULL"};
  return kNames[static_cast<int>(synchronous)];
}

SqlitePowerResult fail_power_of_sqlite(const SqlitePowerOptions& options) {
  return Campaign(options).run();
}

}  // namespace campaign
