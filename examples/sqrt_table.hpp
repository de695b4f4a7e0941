// A table of square roots that is never computed as a whole: each page is filled when it is first
// touched, and at most N pages exist at any time. The mmap homework of MIT 6.828, on pagetrap.
//
// Read fill() first: it is the page-fault handler, and the whole idea.
#pragma once

#include <alloca.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <pagetrap/core/signal_safe_text.hpp>
#include <pagetrap/vm/vm.hpp>

namespace example {

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
    // write_protected, so that supply() can map pages read-only: a store would be lost at the next
    // eviction, so it had better crash.
    auto region = pagetrap::Region::create(
        options.entries * sizeof(double),
        {.name = "square roots",
         .faults = pagetrap::FaultKind::missing | pagetrap::FaultKind::write_protected,
         .backend = options.backend,
         .huge_pages = pagetrap::HugePages::never});
    if (!region) return region.error();
    std::unique_ptr<SqrtTable> table(new SqrtTable(options, std::move(*region)));
    if (auto done = table->region_.on_fault(handle, table.get()); !done) return done.error();
    return table;
  }

  double operator[](std::uint64_t index) const {
    // volatile: the compiler may not read twice, nor keep a value for later.
    return reinterpret_cast<const volatile double*>(region_.data())[index];
  }

  [[nodiscard]] std::uint64_t entries() const { return entries_; }
  [[nodiscard]] std::size_t page_limit() const { return slots_.size(); }
  [[nodiscard]] std::uint64_t faults() const { return faults_.load(std::memory_order_relaxed); }
  [[nodiscard]] pagetrap::Region& region() { return region_; }

 private:
  using Slot = std::atomic<std::byte*>;  // the page it admits, null if none, kClaimed meanwhile

  SqrtTable(const SqrtTableOptions& options, pagetrap::Region region)
      : entries_(options.entries),
        explain_(options.explain),
        slots_(options.resident_pages),
        region_(std::move(region)) {}

  static pagetrap::Verdict handle(void* self, const pagetrap::Fault& fault) noexcept
      PAGETRAP_SIGNAL_SAFE {
    return static_cast<SqrtTable*>(self)->fill(fault);
  }

  /// Runs inside a signal handler or a handler thread, in any number of threads at once.
  ///
  /// A page may be resident only while one slot admits it, and there are N slots. The claim gives
  /// this call a slot for itself; the page that had it is evicted BEFORE the new one is supplied,
  /// so at no instant are there more than N, threads in flight included.
  ///
  /// RACE our page may be evicted by another fault before our reader has read it (with N = 1 and
  /// several threads it often is): then the reader faults again. It can never read a wrong value,
  /// since supply() shows a page only when it is full.
  /// RACE two readers fault on the same page: the one that comes second fills no page and leaves
  /// its slot empty, so that every resident page is in exactly one slot.
  pagetrap::Verdict fill(const pagetrap::Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    if (fault.write) return pagetrap::Verdict::not_mine;
    const std::int64_t began = now_ns();
    std::byte* victim = nullptr;
    Slot* const slot = claim(victim);
    if (slot == nullptr) return pagetrap::Verdict::retry;  // other faults hold every slot
    if (victim != nullptr) {
      if (auto done = region_.evict(pagetrap::page_of(victim)); !done)
        return complain(done.error());
    }
    // On the stack and as large as a page, which only the running kernel knows.
    auto* const roots = static_cast<double*>(alloca(pagetrap::page_size()));
    const std::uint64_t first = index_of(fault.page.base);
    const std::size_t count = pagetrap::page_size() / sizeof(double);
    for (std::size_t i = 0; i < count; ++i) roots[i] = std::sqrt(static_cast<double>(first + i));

    const auto filled =
        region_.supply(fault.page, roots, pagetrap::Supply::copy, pagetrap::Access::read);
    if (!filled) return complain(filled.error());
    slot->store(filled->count() == 1 ? fault.page.base : nullptr, std::memory_order_release);
    faults_.fetch_add(1, std::memory_order_relaxed);
    if (explain_) explain(fault, victim, now_ns() - began);
    return pagetrap::Verdict::resolved;
  }

  /// The next slot in the ring that no other fault is using, or null. First in, first out.
  Slot* claim(std::byte*& victim) noexcept PAGETRAP_SIGNAL_SAFE {
    for (std::size_t tries = slots_.size(); tries > 0; --tries) {
      Slot& slot = slots_[hand_.fetch_add(1, std::memory_order_relaxed) % slots_.size()];
      victim = slot.exchange(claimed_mark(), std::memory_order_acquire);
      if (victim != claimed_mark()) return &slot;
    }
    return nullptr;
  }

  /// An address that is no page's.
  static std::byte* claimed_mark() noexcept PAGETRAP_SIGNAL_SAFE {
    return reinterpret_cast<std::byte*>(std::uintptr_t{1});
  }

  [[nodiscard]] std::uint64_t index_of(const std::byte* address) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return static_cast<std::uint64_t>(address - region_.data()) / sizeof(double);
  }

  static std::int64_t now_ns() noexcept PAGETRAP_SIGNAL_SAFE {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);  // signal-safety(7)
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  }

  void explain(const pagetrap::Fault& fault, const std::byte* victim,
               std::int64_t nanoseconds) const noexcept PAGETRAP_SIGNAL_SAFE {
    const std::uint64_t per_page = pagetrap::page_size() / sizeof(double);
    pagetrap::SignalSafeText line;
    line.text("fault ").pointer(fault.address).text("  page ");
    line.unsigned_decimal(index_of(fault.page.base) / per_page).text("  evicted ");
    if (victim == nullptr) {
      line.text("none");
    } else {
      line.text("page ").unsigned_decimal(index_of(victim) / per_page);
    }
    line.text("  ").decimal(nanoseconds / 1000).text(".").decimal(nanoseconds / 100 % 10);
    put(STDOUT_FILENO, line.text(" us\n"));
  }

  /// The fault then kills the process, with the instruction that raised it in the core dump.
  static pagetrap::Verdict complain(const pagetrap::Error& error) noexcept PAGETRAP_SIGNAL_SAFE {
    pagetrap::SignalSafeText line;
    line.text("square roots: ").text(error.operation).text(" of ").range(error.range);
    put(STDERR_FILENO, line.text(" failed, errno ").decimal(error.number).text("\n"));
    return pagetrap::Verdict::not_mine;
  }

  static void put(int descriptor, const pagetrap::SignalSafeText& line) noexcept
      PAGETRAP_SIGNAL_SAFE {
    const auto words = line.view();
    [[maybe_unused]] const auto written = write(descriptor, words.data(), words.size());
  }

  std::uint64_t entries_;
  bool explain_;
  std::atomic<std::size_t> hand_{0};
  std::atomic<std::uint64_t> faults_{0};
  std::vector<Slot> slots_;
  pagetrap::Region region_;  // last, so first to go: its end waits for handlers that use the rest
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
