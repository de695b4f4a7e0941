// store.open_*: from the open to the first record that was read.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/clock.hpp"
#include "harness/pairs.hpp"
#include "store/opening.hpp"
#include "store/our_store.hpp"
#include "store/questions.hpp"
#include "store/sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

/// Runs `work` in a process, which is killed when it has returned, if it does not end by itself.
template <class Work>
void in_a_process(Report& report, bool ends, Work&& work) {
  const pid_t child = fork();
  report.check(child >= 0, "fork");
  if (child == 0) {
    try {
      work();
    } catch (...) {
      _exit(1);
    }
    if (!ends) raise(SIGKILL);
    _exit(0);
  }
  int status = 1;
  waitpid(child, &status, 0);
  report.check(ends ? status == 0 : WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
               "what was to be opened could not be made");
}

}  // namespace

double time_to_first_record(Report& report, const OpenRecordStore& open,
                            const RecordStoreOptions& options) {
  return told_apart(report, [&](const Tell& tell) {
    const double begin = now_ns();
    const auto store = open(options);
    static_cast<void>(store->get(7));
    // Not closed: that would leave less to do for the next one.
    tell(now_ns() - begin);
  });
}

namespace {

/// Both are loaded; then `transactions` more, and a kill.
template <bool Killed>
void measure(const Effort& effort, Report& report) {
  require_installed(report, rivals::open_rocksdb);
  const std::size_t bytes = (effort.quick ? 64 : 1024) * kMiB;
  const int transactions = effort.quick ? 20'000 : 500'000;
  const StoreFolder folder(report, 8.0 * static_cast<double>(bytes));
  // Not waited for one by one: half a million flushes would take minutes.
  const RecordStoreOptions ours{folder.make("ours"), bytes, false};
  const RecordStoreOptions rival{folder.make("rival"), bytes, false};
  report.parameter("bytes", static_cast<double>(bytes));
  if (Killed) report.parameter("transactions", transactions);
  for (int i = 0; i < (effort.quick ? 3 : 5); ++i) {
    for (const bool mine : {true, false}) {
      const OpenRecordStore open = mine ? OpenRecordStore(open_ours) : rivals::open_rocksdb;
      const RecordStoreOptions& options = mine ? ours : rival;
      if (i > 0 && !Killed) continue;
      in_a_process(report, !Killed, [&] {
        const auto store = open(options);
        const std::uint64_t count = bytes / kRecordBytes;
        if (i == 0) store->load(count);
        Keys keys(count);
        Record value{};
        for (int t = 0; Killed && t < transactions; ++t) {
          value[0] = static_cast<std::byte>(t);
          const std::array<std::uint64_t, 4> four{keys.next(), keys.next(), keys.next(),
                                                  keys.next()};
          store->update(four, value);
        }
        if (auto* const own = dynamic_cast<OurStore*>(store.get()); own != nullptr && Killed)
          own->store().sync().value();
      });
    }
    report.pair(time_to_first_record(report, open_ours, ours),
                time_to_first_record(report, rivals::open_rocksdb, rival));
  }
}

}  // namespace

void add_store_opening(Questions& questions) {
  questions.push_back({.id = "store.open_clean",
                       .asks = "from open to the first record, after a clean close",
                       .ours = "Store::open, one look-up",
                       .rival = "RocksDB",
                       .unit = "ns",
                       .target = 0.1,
                       .measure = measure<false>});
  questions.push_back({.id = "store.open_after_kill",
                       .asks = "the same after a SIGKILL with transactions in the log",
                       .ours = "Store::open, one look-up",
                       .rival = "RocksDB",
                       .unit = "ns",
                       .target = 0.2,
                       .measure = measure<true>});
}

}  // namespace pagetrap::bench
