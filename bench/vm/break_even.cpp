// vm.break_even: should we use virtual memory? For each use of a fault, the instruction that does
// the same in software, and at how many executions of the instruction a fault costs as much.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "harness/cpus.hpp"
#include "vm/questions.hpp"
#include "vm/trap_sides.hpp"
#include "vm/twin_costs.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kPages = 4096;
constexpr std::size_t kDirtyShare = 16;  // one page in so many is written between two collections

/// A mechanism's cost per fault; none if it is not to be had here.
struct FaultCost {
  std::string mechanism;
  Cost cost;
  [[nodiscard]] bool known() const noexcept { return cost.median_ns > 0; }
};

int rounds(const Effort& effort) { return effort.quick ? 9 : 51; }

/// Concurrent collection: the pages are taken away in one call, each first access traps and the
/// (here: instantly) scanned page is published.
FaultCost trap_per_access(const Effort& effort, Report& report) {
  RegionOptions options = write_trap_options(Delivery::faulting_thread);
  options.backing = Backing::memfd;
  options.faults = FaultKind::minor;
  auto region = Region::create(kPages * page_size(), options);
  if (!region) return {};
  static std::uint64_t faults;
  region
      ->on_fault(
          [](void*, const Fault& fault) noexcept {
            ++faults;
            const bool done{fault.region->supply(fault.page, nullptr, Supply::publish)};
            return done ? Verdict::resolved : Verdict::not_mine;
          },
          nullptr)
      .value();
  {
    // The contents are written through a second view, as a collector would.
    const View view = region->map_twice(Access::read_write).value();
    populate(view.data(), region->size_bytes());
  }
  region->supply(region->range(), nullptr, Supply::publish).value();
  std::vector<double> costs;
  for (int round = 0; round < rounds(effort); ++round) {
    const std::uint64_t before = faults;
    const double elapsed = time_ns([&] {
      region->evict(region->range()).value();
      for (std::size_t i = 0; i < kPages; ++i) read_from(region->data() + i * page_size());
    });
    report.check(faults - before == kPages, "not exactly one fault for each evicted page");
    costs.push_back(elapsed / static_cast<double>(kPages));
  }
  return {std::string("trap + publish, ") + name(region->backend()), cost_of(costs)};
}

/// Generations: the first write to a page is caught, and DIRTY finds it.
FaultCost dirty_page(const Effort& effort, Report& report) {
  RegionOptions options = write_trap_options(Delivery::any);
  options.faults = FaultSet{};  // asking for write traps as well would rule out the scan
  options.dirty = DirtyForm::best;
  auto region = Region::create(kPages * page_size(), options);
  if (!region) return {};
  populate(region->data(), region->size_bytes());
  std::vector<PageRange> found;
  region->dirty(region->range(), found).value();
  std::vector<double> costs;
  for (int round = 0; round < rounds(effort); ++round) {
    found.clear();
    const auto offset = static_cast<std::size_t>(round) % kDirtyShare;
    const double elapsed = time_ns([&] {
      for (std::size_t i = offset; i < kPages; i += kDirtyShare) {
        write_to(region->data() + i * page_size());
      }
      region->dirty(region->range(), found).value();
    });
    report.check(found.size() == kPages / kDirtyShare, "DIRTY did not find what was written");
    costs.push_back(elapsed / static_cast<double>(found.size()));
  }
  const bool scans = region->dirty_form() == DirtyForm::scan;
  return {scans ? "DIRTY, 1 of 16 pages, scan included" : "DIRTY by traps, 1 of 16 pages",
          cost_of(costs)};
}

/// The nursery's end: the store behind it faults, the guard is taken away and put up again.
FaultCost guard_page(const Effort& effort, Report& report) {
  RegionOptions options = write_trap_options(Delivery::faulting_thread);
  options.faults = FaultKind::no_access;
  auto region = Region::create(kPages * page_size(), options);
  if (!region) return {};
  static std::uint64_t faults;
  region
      ->on_fault(
          [](void*, const Fault& fault) noexcept {
            ++faults;
            return fault.region->unguard(fault.page) ? Verdict::resolved : Verdict::not_mine;
          },
          nullptr)
      .value();
  constexpr std::size_t kRefills = 256;
  const PageRange guard{region->data() + kPages / 2 * page_size(), Pages{1}};
  std::vector<double> costs;
  for (int round = 0; round < rounds(effort); ++round) {
    const std::uint64_t before = faults;
    const double elapsed = time_ns([&] {
      for (std::size_t i = 0; i < kRefills; ++i) {
        region->guard(guard).value();
        write_to(guard.base);
      }
    });
    report.check(faults - before == kRefills, "not exactly one fault for each refill");
    costs.push_back(elapsed / kRefills);
  }
  return {"guard page, trap + new guard", cost_of(costs)};
}

void compare(Report& report, const char* application, const FaultCost& fault,
             const char* instruction, const Cost& twin) {
  if (!fault.known()) return;
  BreakEven row;
  row.application = application;
  row.fault_mechanism = fault.mechanism;
  row.fault_ns = fault.cost.median_ns;
  row.instruction = instruction;
  if (!twin.within_noise()) {
    row.instruction_ns = twin.median_ns;
    row.accesses_per_fault = fault.cost.median_ns / twin.median_ns;
    row.low = fault.cost.low_ns / twin.high_ns;
    row.high = fault.cost.high_ns / twin.low_ns;
  }
  report.break_even(row);
}

void measure(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  const TwinCosts twins = measure_twins(effort);
  const FaultCost access = trap_per_access(effort, report);
  const FaultCost dirty = dirty_page(effort, report);
  const FaultCost guard = guard_page(effort, report);
  compare(report, "concurrent collection", access, "range test, following pointers",
          twins.read_barrier_chasing);
  compare(report, "concurrent collection", access, "range test, independent loads",
          twins.read_barrier_streaming);
  compare(report, "generations", dirty, "card mark", twins.card_mark);
  compare(report, "generations", dirty, "conditional card mark", twins.conditional_card_mark);
  compare(report, "heap limit", guard, "limit check", twins.limit_check);
}

}  // namespace

void add_break_even(Questions& questions) {
  questions.push_back({.id = "vm.break_even",
                       .asks = "accesses per fault above which a fault beats a barrier instruction",
                       .ours = "fault",
                       .rival = "barrier instruction",
                       .unit = "accesses",
                       .measure = measure});
}

}  // namespace pagetrap::bench
