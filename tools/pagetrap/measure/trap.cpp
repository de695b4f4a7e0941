// TRAP, PROT1, PROTN, UNPROT.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <random>
#include <thread>
#include <vector>

#include <pagetrap/vm/vm.hpp>

#include "primitives.hpp"

namespace pagetrap::tool {
namespace {

/// What the handler does, and when it did it.
struct Probe {
  bool whole_region = false;
  PageRange protect_next{};  // if not empty: protected by the handler too
  Access leave = Access::read;
  std::atomic<double> entered{0};
  std::atomic<double> left{0};
  std::atomic<unsigned> served{0};
};

Verdict serve(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  auto& probe = *static_cast<Probe*>(self);
  probe.entered.store(now_ns(), std::memory_order_relaxed);
  bool done = true;
  if (!probe.protect_next.empty()) {
    done = static_cast<bool>(fault.region->protect(probe.protect_next, probe.leave));
  }
  const PageRange range = probe.whole_region ? fault.region->range() : fault.page;
  done = static_cast<bool>(fault.region->unprotect(range)) && done;
  probe.left.store(now_ns(), std::memory_order_relaxed);
  probe.served.fetch_add(1, std::memory_order_release);
  return done ? Verdict::resolved : Verdict::not_mine;
}

/// A region with contents on every page, and what it takes to make it fault.
struct Bench {
  Bench(BackendId id, Pages pages) {
    // Of `best` nothing is known beforehand; there is always one that reports writes.
    const bool by_write =
        id == BackendId::best ||
        capabilities(id, Backing::anonymous).faults.has(FaultKind::write_protected);
    probe.leave = by_write ? Access::read : Access::none;
    region = Region::create(bytes(pages),
                            {.faults = by_write ? FaultKind::write_protected : FaultKind::no_access,
                             .backend = id,
                             .huge_pages = HugePages::never})
                 .value();
    if (region.backend() == BackendId::null) {
      throw SystemError(
          {"null backend", ENOTSUP, {}, "it protects nothing; unset PAGETRAP_BACKEND"});
    }
    probe.whole_region = !region.can().per_page;
    for (std::size_t i = 0; i < pages.count(); ++i) store_to(page(i));
    region.on_fault(serve, &probe).value();
  }

  [[nodiscard]] PageRange page(std::size_t index) const {
    return {region.data() + bytes(Pages{index}), Pages{1}};
  }

  static void store_to(PageRange page) { *reinterpret_cast<volatile char*>(page.base) = 1; }

  /// Handler threads wake the program before they note the time.
  void wait_until_served(unsigned count) const {
    while (probe.served.load(std::memory_order_acquire) < count) std::this_thread::yield();
  }

  Probe probe;  // before the region: handlers may run until that ends
  Region region;
};

constexpr unsigned kSeed = 1991;

}  // namespace

void measure_trap(BackendId id, Budget budget, Measured& out) {
  constexpr Pages kPages{64};
  Bench bench(id, kPages);
  out.mechanism.set(name(bench.region.backend()));
  Samples protect(budget);
  Samples trap(budget);
  Samples unprotect(budget);
  Samples cycle(budget);
  unsigned faults = 0;
  for (std::size_t i = 0; cycle.wants_more(); ++i) {
    const PageRange page = bench.page(i % kPages.count());
    const double begin = now_ns();
    bench.region.protect(bench.probe.whole_region ? bench.region.range() : page, bench.probe.leave)
        .value();
    const double before = now_ns();
    Bench::store_to(page);
    const double after = now_ns();
    bench.wait_until_served(++faults);
    const double handler = bench.probe.left.load() - bench.probe.entered.load();
    protect.add(before - begin);
    trap.add(after - before - handler);
    unprotect.add(handler);
    cycle.add(after - begin);
  }
  out.add(kTrap, trap.median());
  out.add(kProtectOne, protect.median());
  out.add(kUnprotect, unprotect.median());
  out.add(kCycle, cycle.median());
}

void measure_protect_many(BackendId id, Budget budget, Measured& out) {
  constexpr Pages kPages{4096};
  Bench bench(id, kPages);
  out.mechanism.set(name(bench.region.backend()));
  Samples protect(budget);
  while (protect.wants_more()) {
    const double begin = now_ns();
    bench.region.protect(bench.region.range(), bench.probe.leave).value();
    protect.add(now_ns() - begin);
    bench.region.unprotect(bench.region.range()).value();
  }
  const double per_call = protect.median();
  out.add(kProtectMany, per_call / static_cast<double>(kPages.count()));
  out.add("protect, per call", per_call);
}

void measure_appel_li(BackendId id, Budget budget, Measured& out) {
  constexpr std::size_t kCount = 100;
  Bench bench(id, Pages{kCount});
  out.mechanism.set(name(bench.region.backend()));
  if (bench.probe.whole_region) return;  // both need rights of single pages
  std::mt19937 random(kSeed);
  std::vector<std::size_t> order(kCount);
  for (std::size_t i = 0; i < kCount; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);

  Samples first(budget / 2);
  bench.region.protect(bench.page(order[0]), bench.probe.leave).value();
  while (first.wants_more()) {
    const double begin = now_ns();
    for (std::size_t i = 0; i < kCount; ++i) {
      bench.probe.protect_next = bench.page(order[(i + 1) % kCount]);
      Bench::store_to(bench.page(order[i]));
    }
    first.add((now_ns() - begin) / kCount);
  }
  out.add(kAppel1, first.median());

  bench.probe.protect_next = {};
  Samples second(budget / 2);
  while (second.wants_more()) {
    const double begin = now_ns();
    bench.region.protect(bench.region.range(), bench.probe.leave).value();
    for (const std::size_t index : order) Bench::store_to(bench.page(index));
    second.add((now_ns() - begin) / kCount);
  }
  out.add(kAppel2, second.median());
}

}  // namespace pagetrap::tool
