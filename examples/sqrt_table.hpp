// A table of square roots that is never computed as a whole: each page is filled when it is first
// touched, and at most N pages exist at any time. The mmap homework of MIT 6.828, on pagetrap.
//
// Read roots() first: it is the whole idea. The pager does the rest.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include <pagetrap/core/signal_safe_text.hpp>
#include <pagetrap/pager/pager.hpp>

namespace example {

/// What page `page` of the table is. Runs inside a signal handler or a handler thread, in any
/// number of threads at once; `bytes` is shown to the readers when it is full, and not before.
inline auto roots() {
  return pagetrap::pager::computed([](std::uint64_t page, std::byte* bytes) noexcept {
    auto* const root = reinterpret_cast<double*>(bytes);
    const std::size_t count = pagetrap::page_size() / sizeof(double);
    const std::uint64_t first = page * count;
    for (std::size_t i = 0; i < count; ++i) root[i] = std::sqrt(static_cast<double>(first + i));
  });
}

struct SqrtTableOptions {
  std::uint64_t entries = std::uint64_t{1} << 37;  // doubles: 1 TiB of addresses
  std::size_t resident_pages = 16;                 // N, at least 1
  pagetrap::BackendId backend = pagetrap::BackendId::best;
  bool explain = false;  // one line on standard output for each fault
};

/// Reading entry i from any thread gives exactly sqrt(i), wherever the page is at that moment.
class SqrtTable {
 public:
  static pagetrap::Result<std::unique_ptr<SqrtTable>> create(const SqrtTableOptions& options) {
    std::unique_ptr<SqrtTable> table(new SqrtTable(options));
    // The budget counts pages in flight too: at no instant are there more than N.
    auto pager = pagetrap::pager::Pager::create(
        {.budget_bytes = pagetrap::bytes(pagetrap::Pages{options.resident_pages}),
         .helper_thread = false});
    if (!pager) return pager.error();
    table->pager_ = std::move(*pager);
    // A page at a time, as in the homework: neither read-ahead nor fault-around.
    auto region = pagetrap::pager::Region::create(*table->pager_, options.entries * sizeof(double),
                                                  table->roots_,
                                                  {.name = "square roots",
                                                   .fault_around = 1,
                                                   .prefetch = false,
                                                   .backend = options.backend,
                                                   .observer = options.explain ? explain : nullptr,
                                                   .observer_self = table.get()});
    if (!region) return region.error();
    table->region_ = std::move(*region);
    return table;
  }

  double operator[](std::uint64_t index) const {
    // volatile: the compiler may not read twice, nor keep a value for later.
    return reinterpret_cast<const volatile double*>(region_.data())[index];
  }

  [[nodiscard]] std::uint64_t entries() const { return entries_; }
  [[nodiscard]] std::size_t page_limit() const { return page_limit_; }
  [[nodiscard]] std::uint64_t faults() const { return region_.statistics().faults; }
  [[nodiscard]] pagetrap::pager::Region& region() { return region_; }

 private:
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};

  explicit SqrtTable(const SqrtTableOptions& options)
      : entries_(options.entries), page_limit_(options.resident_pages) {}

  static void explain(void* self, const pagetrap::pager::Movement& movement) noexcept
      PAGETRAP_SIGNAL_SAFE {
    auto& evicted = static_cast<SqrtTable*>(self)->last_evicted_;
    if (!movement.in) return evicted.store(movement.page, std::memory_order_relaxed);
    const std::uint64_t victim = evicted.exchange(kNone, std::memory_order_relaxed);
    pagetrap::SignalSafeText line;
    line.text("fault ").pointer(movement.address).text("  page ");
    line.unsigned_decimal(movement.page).text("  evicted ");
    if (victim == kNone) {
      line.text("none");
    } else {
      line.text("page ").unsigned_decimal(victim);
    }
    line.text("  ").unsigned_decimal(movement.nanoseconds / 1000).text(".");
    line.unsigned_decimal(movement.nanoseconds / 100 % 10).text(" us\n");
    const auto words = line.view();
    [[maybe_unused]] const auto written = write(STDOUT_FILENO, words.data(), words.size());
  }

  std::uint64_t entries_;
  std::size_t page_limit_;
  std::atomic<std::uint64_t> last_evicted_{kNone};
  decltype(roots()) roots_ = roots();
  std::unique_ptr<pagetrap::pager::Pager> pager_;
  pagetrap::pager::Region region_;  // last, so first to go: its end waits for faults under way
};

/// As asked, or the largest by halving where the system refuses the addresses (RLIMIT_AS, or
/// vm.overcommit_memory=2).
inline pagetrap::Result<std::unique_ptr<SqrtTable>> largest_sqrt_table(SqrtTableOptions options) {
  constexpr std::uint64_t kSmallest = std::uint64_t{1} << 20;  // arbitrary: 8 MiB
  while (true) {
    auto table = SqrtTable::create(options);
    if (table || table.error().number != ENOMEM || options.entries / 2 < kSmallest) return table;
    options.entries /= 2;
  }
}

}  // namespace example
