// store.snapshot_open: another process reads the first record while a writer goes on.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pagetrap/store/snapshot.hpp>

#include "harness/pairs.hpp"
#include "store/opening.hpp"
#include "store/our_store.hpp"
#include "store/questions.hpp"
#include "store/sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kBytes = std::size_t{64} << 20;

class OurSnapshot final : public RecordStore {
 public:
  explicit OurSnapshot(const RecordStoreOptions& options)
      : snapshot_(store::Snapshot::open(OurStore::path(options)).value()),
        map_(*snapshot_.find<RecordMap>("records").value()) {}
  void load(std::uint64_t) override { require(false, "a snapshot is read-only"); }
  void update(std::span<const std::uint64_t>, const Record&) override {
    require(false, "a snapshot is read-only");
  }
  Record get(std::uint64_t key) override { return map_.find(key)->second; }

 private:
  store::Snapshot snapshot_;
  const RecordMap& map_;
};
std::unique_ptr<RecordStore> open_snapshot(const RecordStoreOptions& options) {
  return std::make_unique<OurSnapshot>(options);
}

/// A process that changes records until its end, and stands still unless it is let.
class Writer {
 public:
  Writer(Report& report, const OpenRecordStore& open, const RecordStoreOptions& options) {
    int ends[2];
    report.check(pipe(ends) == 0, "pipe");
    child_ = fork();
    report.check(child_ >= 0, "fork");
    if (child_ == 0) {
      try {
        write_for_ever(open, options, ends[1]);
      } catch (...) {
      }
      _exit(1);
    }
    close(ends[1]);
    char loaded = 0;
    report.check(read(ends[0], &loaded, 1) == 1, "the writer could not load its records");
    close(ends[0]);
    kill(child_, SIGSTOP);
  }
  ~Writer() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  template <class Work>
  double while_it_writes(Work&& work) {
    kill(child_, SIGCONT);
    usleep(20'000);
    const double result = work();
    kill(child_, SIGSTOP);
    return result;
  }

 private:
  [[noreturn]] static void write_for_ever(const OpenRecordStore& open,
                                          const RecordStoreOptions& options, int loaded) {
    const auto store = open(options);
    const std::uint64_t count = options.bytes / kRecordBytes;
    store->load(count);
    require(write(loaded, "1", 1) == 1, "write");
    Keys keys(count);
    Record value{};
    for (;;) {
      value[0] = static_cast<std::byte>(static_cast<unsigned>(value[0]) + 1);
      const std::array<std::uint64_t, 4> four{keys.next(), keys.next(), keys.next(), keys.next()};
      store->update(four, value);
    }
  }
  pid_t child_ = -1;
};

void measure(const Effort& effort, Report& report) {
  require_installed(report, rivals::open_lmdb);
  const StoreFolder folder(report, 8.0 * static_cast<double>(kBytes));
  const RecordStoreOptions ours{folder.make("ours"), kBytes, true};
  const RecordStoreOptions rival{folder.make("rival"), kBytes, true};
  report.parameter("bytes", static_cast<double>(kBytes));
  Writer our_writer(report, open_ours, ours);
  Writer rival_writer(report, rivals::open_lmdb, rival);
  interleave(
      with_fewer_pairs(effort, 15), report,
      [&] {
        return our_writer.while_it_writes(
            [&] { return time_to_first_record(report, open_snapshot, ours); });
      },
      [&] {
        return rival_writer.while_it_writes(
            [&] { return time_to_first_record(report, rivals::open_lmdb, rival); });
      });
}

}  // namespace

void add_store_snapshots(Questions& questions) {
  questions.push_back({.id = "store.snapshot_open",
                       .asks = "from open to the first record in another process, while a writer "
                               "goes on in 64 MiB",
                       .ours = "Snapshot::open, one look-up",
                       .rival = "LMDB",
                       .unit = "ns",
                       .measure = measure,
                       .scheduling = Scheduling::fair_group});
}

}  // namespace pagetrap::bench
