// store.relocate_1g: the address of a store is taken. What the first look-up costs when pages are
// relocated as they are touched, and when all of them are.
#include <sys/mman.h>

#include <pagetrap/store/containers.hpp>
#include <pagetrap/store/inspect.hpp>

#include "harness/clock.hpp"
#include "store/our_store.hpp"
#include "store/questions.hpp"
#include "store/sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

using TypedMap =
    std::unordered_map<std::uint64_t, Record, std::hash<std::uint64_t>, std::equal_to<>,
                       store::Allocator<std::pair<const std::uint64_t, Record>>>;

void load(const std::string& path, std::uint64_t count) {
  store::StoreOptions options;
  options.durability = store::Durability::none;
  auto store = store::Store::open(path, options).value();
  auto& map = *store.root<TypedMap>("records").value();
  fill(store, map, count);
  store.close().value();
}

/// Another mapping lies at `base`, as another store of the same origin would.
void take(std::uint64_t base) {
  void* const wanted = reinterpret_cast<void*>(base);
  void* const got = mmap(wanted, page_size(), PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  require(got == wanted, "the store's address could not be taken");
}

/// From open to the first record; `all`: and until every page has been relocated.
double time_to_record(const std::string& path, bool all) {
  const double begin = now_ns();
  auto store = store::Store::open(path).value();
  require(store.relocated(), "the store is at its own address");
  const auto& map = *store.root<TypedMap>("records").value();
  require(map.find(7) != map.end(), "a record is missing");
  const auto* const bytes = reinterpret_cast<const volatile char*>(store.range().base);
  const std::size_t used = all ? store.statistics().used_bytes : 0;
  for (std::size_t at = 0; at < used; at += page_size()) static_cast<void>(bytes[at]);
  return now_ns() - begin;
}

void measure(const Effort& effort, Report& report) {
  const std::size_t bytes = (effort.quick ? 64 : 1024) * kMiB;
  const StoreFolder folder(report, 2.5 * static_cast<double>(bytes));
  const std::string path = folder.make("ours") + "/ours.store";
  report.parameter("bytes", static_cast<double>(bytes));
  told_apart(report, [&](const Tell& tell) {
    load(path, bytes / kRecordBytes);
    tell(0);
  });
  // Closed again: it has the file's lock.
  const std::uint64_t base = store::StoreFile::open(path).value().info().base;
  // The first round warms the page cache.
  for (int i = -1; i < (effort.quick ? 5 : 7); ++i) {
    double took[2];
    for (const bool all : {false, true})
      took[all ? 1 : 0] = told_apart(report, [&](const Tell& tell) {
        take(base);
        tell(time_to_record(path, all));
      });
    if (i >= 0) report.pair(took[0], took[1]);
  }
}

}  // namespace

void add_store_relocation(Questions& questions) {
  questions.push_back({.id = "store.relocate_1g",
                       .asks = "from open to the first record, when the store's address is taken",
                       .ours = "pages relocated as they are touched",
                       .rival = "all pages",
                       .unit = "ns",
                       .target = 0.02,
                       .measure = measure});
}

}  // namespace pagetrap::bench
