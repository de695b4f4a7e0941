// store.get: a lookup is following pointers.
#include "harness/pairs.hpp"
#include "store/our_store.hpp"
#include "store/questions.hpp"
#include "store/sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr int kBatch = 20'000;

/// The same table in anonymous memory.
class Anonymous final : public RecordStore {
 public:
  void load(std::uint64_t count) override {
    map_.reserve(count);
    for (std::uint64_t key = 0; key < count; ++key) map_.emplace(key, Record{});
  }
  void update(std::span<const std::uint64_t> keys, const Record& value) override {
    for (const std::uint64_t key : keys) map_.find(key)->second = value;
  }
  Record get(std::uint64_t key) override { return map_.find(key)->second; }

 private:
  std::pmr::monotonic_buffer_resource memory_;
  RecordMap map_{&memory_};
};
std::unique_ptr<RecordStore> open_anonymous(const RecordStoreOptions&) {
  return std::make_unique<Anonymous>();
}

template <std::unique_ptr<RecordStore> (*Rival)(const RecordStoreOptions&)>
void measure(const Effort& effort, Report& report) {
  const std::size_t bytes = effort.quick ? 64 * kMiB : 1024 * kMiB;
  require_installed(report, Rival);
  const StoreFolder folder(report, 6.0 * static_cast<double>(bytes));
  report.parameter("bytes", static_cast<double>(bytes));
  measure_sides(with_fewer_pairs(effort, 9), report,
                reads(open_ours, {folder.make("ours"), bytes, true}, kBatch),
                reads(Rival, {folder.make("rival"), bytes, true}, kBatch));
}

}  // namespace

void add_store_reads(Questions& questions) {
  questions.push_back({.id = "store.get",
                       .asks = "a random lookup among records of 100 bytes",
                       .ours = "std::pmr::unordered_map in a store",
                       .rival = "LMDB",
                       .unit = "ns",
                       .target = 0.3,
                       .measure = measure<rivals::open_lmdb>});
  questions.push_back({.id = "store.get.anon",
                       .asks = "the same against the same table in anonymous memory",
                       .ours = "std::pmr::unordered_map in a store",
                       .rival = "std::pmr::unordered_map in memory",
                       .unit = "ns",
                       .target = 1.03,
                       .measure = measure<open_anonymous>});
}

}  // namespace pagetrap::bench
