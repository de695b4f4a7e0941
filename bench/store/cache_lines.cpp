// store.txn_64m.cache_lines: what remains of a transaction when no system call makes it durable. On
// an ordinary file, where it is not durable against a power failure: the cost only.
#include <optional>

#include "harness/pairs.hpp"
#include "store/our_store.hpp"
#include "store/questions.hpp"
#include "store/sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kBytes = std::size_t{64} << 20;
constexpr int kBatch = 200;

/// Loaded by traps, and then opened with a barrier: faults would take longer than the lines.
template <store::Persistence How>
class Annotated final : public RecordStore {
 public:
  explicit Annotated(const RecordStoreOptions& options) : options_(options) {}
  void load(std::uint64_t count) override {
    OurStore(options_, store::Detect::traps, How).load(count);
    store_.emplace(options_, store::Detect::barrier, How);
    for (std::uint64_t key = 0; key < count; ++key) static_cast<void>(store_->get(key));
  }
  void update(std::span<const std::uint64_t> keys, const Record& value) override {
    store_->update(keys, value);
  }
  Record get(std::uint64_t key) override { return store_->get(key); }

 private:
  RecordStoreOptions options_;
  std::optional<OurStore> store_;
};

template <store::Persistence How>
std::unique_ptr<RecordStore> open(const RecordStoreOptions& options) {
  return std::make_unique<Annotated<How>>(options);
}

void measure(const Effort& effort, Report& report) {
  const StoreFolder folder(report, 8.0 * static_cast<double>(kBytes));
  report.parameter("bytes", static_cast<double>(kBytes));
  report.parameter("transactions_in_a_batch", kBatch);
  measure_sides(with_fewer_pairs(effort, 5), report,
                transactions(open<store::Persistence::cache_lines>,
                             {folder.make("ours"), kBytes, true}, kBatch),
                transactions(open<store::Persistence::system_calls>,
                             {folder.make("rival"), kBytes, true}, kBatch));
}

}  // namespace

void add_store_cache_lines(Questions& questions) {
  questions.push_back({.id = "store.txn_64m.cache_lines",
                       .asks = "a transaction of 4 random updates of 100 bytes in 64 MiB, written "
                               "back as cache lines (to an ordinary file: not durable)",
                       .ours = "with tx.write, cache lines",
                       .rival = "with tx.write, system calls",
                       .unit = "ns",
                       .measure = measure});
}

}  // namespace pagetrap::bench
