// store.txn_*: a durable transaction that changes four random records of 100 bytes, found through
// a hash table, by plain assignments. Checkpoints fall where they fall, on both sides.
#include "harness/pairs.hpp"
#include "store/our_store.hpp"
#include "store/questions.hpp"
#include "store/sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::size_t kGiB = std::size_t{1} << 30;
constexpr int kBatch = 200;

void only_in_full_run(const Effort& effort, Report& report, std::size_t bytes) {
  if (effort.quick && bytes >= kGiB) report.skip("takes too long for --quick");
}

std::unique_ptr<RecordStore> open_traps(const RecordStoreOptions& options) {
  return std::make_unique<OurStore>(options, store::Detect::traps);
}

using Open = std::unique_ptr<RecordStore> (*)(const RecordStoreOptions&);

template <std::size_t Bytes, Open Rival, bool Durable>
void against(const Effort& effort, Report& report) {
  only_in_full_run(effort, report, Bytes);
  require_installed(report, Rival);
  const StoreFolder folder(report, 8.0 * Bytes);
  report.parameter("bytes", static_cast<double>(Bytes));
  report.parameter("transactions_in_a_batch", kBatch);
  measure_sides(with_fewer_pairs(effort, 5), report,
                transactions(open_ours, {folder.make("ours"), Bytes, Durable}, kBatch),
                transactions(Rival, {folder.make("rival"), Bytes, Durable}, kBatch));
}

template <std::size_t Bytes, Open Ours>
void against_floor(const Effort& effort, Report& report) {
  only_in_full_run(effort, report, Bytes);
  const StoreFolder folder(report, 4.0 * Bytes);
  report.parameter("bytes", static_cast<double>(Bytes));
  measure_sides(with_fewer_pairs(effort, 5), report,
                transactions(Ours, {folder.make("ours"), Bytes, true}, kBatch),
                floor(folder.make("floor"), kBatch));
}

Question question(const char* id, std::size_t bytes, const char* ours, const char* rival,
                  double target, void (*measure)(const Effort&, Report&)) {
  return {.id = id,
          .asks = std::string("a durable transaction of 4 random updates of 100 bytes in ") +
                  (bytes >= kGiB ? "1 GiB" : "64 MiB"),
          .ours = ours,
          .rival = rival,
          .unit = "ns",
          .target = target,
          .measure = measure,
          .bound = "faults, the comparison and checkpoints, above what the medium takes"};
}

template <std::size_t Bytes>
void add_size(Questions& questions, const std::string& prefix) {
  const auto add = [&](const char* name, const char* ours, const char* rival, double target,
                       void (*measure)(const Effort&, Report&)) {
    questions.push_back(question((prefix + name).c_str(), Bytes, ours, rival, target, measure));
  };
  add(".lmdb", "plain C++", "LMDB", 0.17, against<Bytes, rivals::open_lmdb, true>);
  add(".sqlite", "plain C++", "SQLite, WAL FULL", 0.33, against<Bytes, rivals::open_sqlite, true>);
  add(".rocksdb", "plain C++", "RocksDB, sync", 0.6, against<Bytes, rivals::open_rocksdb, true>);
  add(".pmemobj", "plain C++", "libpmemobj, same file system", 0.05,
      against<Bytes, rivals::open_pmemobj, true>);
  add(".floor", "plain C++", "512 bytes, direct, synchronous", 1.4,
      against_floor<Bytes, open_ours>);
  add(".floor_traps", "plain C++, Detect::traps", "512 bytes, direct, synchronous", 0,
      against_floor<Bytes, open_traps>);
  add(".floor_annotated", "with tx.write", "512 bytes, direct, synchronous", 1.06,
      against_floor<Bytes, open_annotated<>>);
}

}  // namespace

void add_store_transactions(Questions& questions) {
  add_size<kGiB>(questions, "store.txn_1g");
  add_size<64 * kMiB>(questions, "store.txn_64m");
  questions.push_back({.id = "store.nosync_1g",
                       .asks = "the same in 1 GiB without durability",
                       .ours = "plain C++, Durability::none",
                       .rival = "LMDB, WRITEMAP and NOSYNC",
                       .unit = "ns",
                       .target = 0.7,
                       .measure = against<kGiB, rivals::open_lmdb, false>});
}

}  // namespace pagetrap::bench
