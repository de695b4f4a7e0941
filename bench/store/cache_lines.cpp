// store.txn_64m.cache_lines: what remains of a transaction when no system call makes it durable. On
// an ordinary file, where it is not durable against a power failure: the cost only.
#include "harness/pairs.hpp"
#include "store/our_store.hpp"
#include "store/questions.hpp"
#include "store/sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kBytes = std::size_t{64} << 20;
constexpr int kBatch = 200;

void measure(const Effort& effort, Report& report) {
  const StoreFolder folder(report, 8.0 * static_cast<double>(kBytes));
  report.parameter("bytes", static_cast<double>(kBytes));
  report.parameter("transactions_in_a_batch", kBatch);
  measure_sides(with_fewer_pairs(effort, 5), report,
                transactions(open_annotated<store::Persistence::cache_lines>,
                             {folder.make("ours"), kBytes, true}, kBatch),
                transactions(open_annotated<store::Persistence::system_calls>,
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
