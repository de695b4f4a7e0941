// store.bytes_per_txn, flushes_per_txn, pipelined, txn_4threads: what a transaction costs the
// medium, and what is won when they need not be waited for one by one.
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <thread>

#include "harness/clock.hpp"
#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "store/our_store.hpp"
#include "store/questions.hpp"
#include "store/sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr int kBatch = 400;

std::size_t size_for(const Effort& effort) { return (effort.quick ? 64 : 1024) * kMiB; }

/// Bytes written to the disk that `path` is on, by whoever: /proc/self/io counts what is made dirty
/// in the page cache, a whole folio for one byte.
double bytes_written(const std::string& path, Report& report) {
  struct stat facts {};
  report.check(stat(path.c_str(), &facts) == 0, "stat");
  std::ifstream file("/sys/dev/block/" + std::to_string(major(facts.st_dev)) + ":" +
                     std::to_string(minor(facts.st_dev)) + "/stat");
  double field = 0;
  for (int i = 0; i < 7; ++i) file >> field;
  if (!file) report.skip("no counters of the disk: not a block device");
  return field * 512;
}

MakeSide written(const OpenRecordStore& open, RecordStoreOptions options, Report& report) {
  return [=, &report]() -> Peer::Batch {
    std::shared_ptr<RecordStore> store = open(options);
    const std::uint64_t count = options.bytes / kRecordBytes;
    store->load(count);
    auto keys = std::make_shared<Keys>(count);
    sync();
    return [=, &report] {
      // Long enough for checkpoints of both.
      constexpr int kLong = 20'000;
      const double before = bytes_written(options.directory, report);
      Record value{};
      for (int i = 0; i < kLong; ++i) {
        std::array<std::uint64_t, 4> four{};
        for (std::uint64_t& key : four) key = keys->next();
        value[0] = static_cast<std::byte>(i);
        value[99] = static_cast<std::byte>(i >> 8);
        store->update(four, value);
      }
      if (auto* const ours = dynamic_cast<OurStore*>(store.get()))
        ours->store().checkpoint().value();
      sync();
      return (bytes_written(options.directory, report) - before) / kLong;
    };
  };
}

void measure_bytes(const Effort& effort, Report& report) {
  require_installed(report, rivals::open_lmdb);
  const std::size_t bytes = size_for(effort);
  const StoreFolder folder(report, 8.0 * static_cast<double>(bytes));
  report.parameter("bytes", static_cast<double>(bytes));
  Peer ours(report, written(open_ours, {folder.make("ours"), bytes, true}, report));
  Peer rival(report, written(rivals::open_lmdb, {folder.make("rival"), bytes, true}, report));
  for (int i = 0; i < (effort.quick ? 1 : 3); ++i) report.pair(ours.measure(), rival.measure());
}

void measure_flushes(const Effort&, Report& report) {
  const StoreFolder folder(report, 512.0 * kMiB);
  const RecordStoreOptions options{folder.make("ours"), 16 * kMiB, true};
  OurStore ours(options, store::Detect::best);
  const std::uint64_t count = options.bytes / kRecordBytes;
  ours.load(count);
  Keys keys(count);
  for (int batch = 0; batch < 5; ++batch) {
    const auto before = ours.store().statistics();
    for (int i = 0; i < kBatch; ++i) {
      Record value{};
      value[3] = static_cast<std::byte>(batch + 1);
      value[7] = static_cast<std::byte>(i);
      const std::array<std::uint64_t, 4> four{keys.next(), keys.next(), keys.next(), keys.next()};
      ours.update(four, value);
    }
    const auto after = ours.store().statistics();
    report.pair(static_cast<double>(after.log_flushes - before.log_flushes),
                static_cast<double>(after.commits - before.commits));
  }
}

/// commit_async, and a wait for what was committed 64 transactions ago.
MakeSide pipelined(RecordStoreOptions options) {
  return [=]() -> Peer::Batch {
    auto ours = std::make_shared<OurStore>(options, store::Detect::best);
    const std::uint64_t count = options.bytes / kRecordBytes;
    ours->load(count);
    auto keys = std::make_shared<Keys>(count);
    return [=] {
      constexpr int kMany = 2000;
      constexpr std::size_t kWindow = 64;
      std::array<store::Position, kWindow> window{};
      return time_ns([&] {
               Record value{};
               for (int i = 0; i < kMany; ++i) {
                 std::array<std::uint64_t, 4> four{};
                 for (std::uint64_t& key : four) key = keys->next();
                 value[0] = static_cast<std::byte>(i);
                 value[50] = static_cast<std::byte>(i >> 4);
                 store::Position& slot = window[static_cast<std::size_t>(i) % kWindow];
                 ours->store().wait(slot).value();
                 slot = ours->update_async(four, value);
               }
               ours->store().sync().value();
             }) /
             kMany;
    };
  };
}

void measure_pipelined(const Effort& effort, Report& report) {
  const StoreFolder folder(report, 1024.0 * kMiB);
  measure_sides(with_fewer_pairs(effort, 5), report,
                pipelined({folder.make("ours"), 64 * kMiB, true}),
                floor(folder.make("floor"), kBatch));
}

MakeSide by_threads(const OpenRecordStore& open, RecordStoreOptions options) {
  return [=]() -> Peer::Batch {
    std::shared_ptr<RecordStore> store = open(options);
    const std::uint64_t count = options.bytes / kRecordBytes;
    store->load(count);
    unpin();
    return [=] {
      constexpr int kThreads = 4;
      return time_ns([&] {
               std::vector<std::thread> threads;
               for (int t = 0; t < kThreads; ++t)
                 threads.emplace_back([&, t] {
                   Keys keys(count);
                   for (int i = 0; i <= t * 7; ++i) keys.next();
                   Record value{};
                   for (int i = 0; i < kBatch; ++i) {
                     std::array<std::uint64_t, 4> four{};
                     for (std::uint64_t& key : four) key = keys.next();
                     value[static_cast<std::size_t>(t)] = static_cast<std::byte>(i);
                     store->update(four, value);
                   }
                 });
               for (std::thread& thread : threads) thread.join();
             }) /
             (kThreads * kBatch);
    };
  };
}

void measure_threads(const Effort& effort, Report& report) {
  require_installed(report, rivals::open_rocksdb);
  const StoreFolder folder(report, 1024.0 * kMiB);
  report.parameter("threads", 4);
  measure_sides(with_fewer_pairs(effort, 5), report,
                by_threads(open_ours, {folder.make("ours"), 64 * kMiB, true}),
                by_threads(rivals::open_rocksdb, {folder.make("rival"), 64 * kMiB, true}));
}

}  // namespace

void add_store_costs(Questions& questions) {
  questions.push_back({.id = "store.bytes_per_txn",
                       .asks = "bytes to the disk for 4 random updates of 100 bytes",
                       .ours = "log and checkpoints",
                       .rival = "LMDB",
                       .unit = "bytes",
                       .target = 0.1,
                       .measure = measure_bytes});
  questions.push_back({.id = "store.flushes_per_txn",
                       .asks = "flushes of the disk for a transaction",
                       .ours = "flushes",
                       .rival = "transactions",
                       .unit = "flushes",
                       .target = 1.0,
                       .measure = measure_flushes});
  questions.push_back({.id = "store.pipelined",
                       .asks = "a durable transaction, waited for 64 later, in 64 MiB",
                       .ours = "commit_async, one thread",
                       .rival = "512 bytes, direct, synchronous",
                       .unit = "ns",
                       .target = 0.6,
                       .measure = measure_pipelined});
  questions.push_back({.id = "store.txn_4threads",
                       .asks = "a durable transaction of each of 4 threads, in 64 MiB",
                       .ours = "plain C++, group commit",
                       .rival = "RocksDB, group commit",
                       .unit = "ns",
                       .target = 0.9,
                       .measure = measure_threads,
                       .scheduling = Scheduling::fair_group,
                       .bound = "writers exclude each other, and each page opened or closed "
                                "interrupts the other processors"});
}

}  // namespace pagetrap::bench
