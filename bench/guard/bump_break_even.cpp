// guard.bump.break_even: from how many allocations per nursery on does a guard page beat the
// comparison? For each loop, what the comparison costs where no nursery fills, and what a trap
// costs over a call.
#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "guard/bump_side.hpp"
#include "guard/questions.hpp"
#include "harness/cpus.hpp"
#include "harness/results.hpp"
#include "harness/statistics.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kNurseryBytes = 1_MiB;            // fits the second-level cache
constexpr std::size_t kAllocations = (1 << 15) - 4096;  // less than it holds of any loop's
constexpr int kPlacements = 6;  // which frames a nursery gets has been seen to matter

struct Spread {
  double median = 0;
  double low = 0;
  double high = 0;
};

Spread spread_of(const std::vector<double>& values) {
  return {bench::median(values), percentile(values, 0.1), percentile(values, 0.9)};
}

struct Samples {
  std::array<std::vector<double>, kBumpLoops.size()> saved;
  std::array<std::vector<double>, kBumpLoops.size()>
      noise;  // what a loop seems to save over itself
  std::vector<double> trap;
};

void sample(int rounds, Samples& all, Report& report) {
  BumpSide<guard::GuardPage> by_guard(kNurseryBytes, report);
  BumpSide<guard::CompareAndBranch> by_comparison(kNurseryBytes, report);
  for (int round = -1; round < rounds; ++round) {
    for (std::size_t loop = 0; loop < kBumpLoops.size(); ++loop) {
      const bool swapped = round % 2 != 0;
      double guarded = swapped ? by_guard.time_without_refill(loop, kAllocations) : 0;
      const double compared = by_comparison.time_without_refill(loop, kAllocations);
      if (!swapped) guarded = by_guard.time_without_refill(loop, kAllocations);
      const double again = by_guard.time_without_refill(loop, kAllocations);
      if (round < 0) continue;  // warms up
      all.saved[loop].push_back(compared - guarded);
      all.noise[loop].push_back(again - guarded);
    }
  }
  BumpSide<guard::GuardPage> small_guarded(64_KiB, report);
  BumpSide<guard::CompareAndBranch> small_compared(64_KiB, report);
  for (int round = 0; round < rounds; ++round)
    all.trap.push_back(small_guarded.time_refill() - small_compared.time_refill());
}

void measure(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  Samples all;
  for (int placement = 0; placement < kPlacements; ++placement)
    sample(effort.quick ? 9 : 101, all, report);
  const Spread trap = spread_of(all.trap);
  for (std::size_t loop = 0; loop < kBumpLoops.size(); ++loop) {
    const Spread saved = spread_of(all.saved[loop]);
    BreakEven row;
    row.application = std::string(kBumpLoops[loop].name);
    row.fault_mechanism = "nursery full: trap over call";
    row.fault_ns = trap.median;
    row.instruction = "limit check";
    if (saved.median > 0 && saved.low > percentile(all.noise[loop], 0.9)) {
      row.instruction_ns = saved.median;
      row.accesses_per_fault = trap.median / saved.median;
      row.low = trap.low / saved.high;
      row.high = trap.high / saved.low;
      row.application +=
          ": " + quantity(row.accesses_per_fault * kBumpLoops[loop].object_bytes / 1024, "KiB");
    }
    report.break_even(row);
  }
}

}  // namespace

void add_bump_break_even(Questions& questions) {
  questions.push_back({.id = "guard.bump.break_even",
                       .asks = "allocations per nursery above which a guard page beats the check",
                       .ours = "guard page",
                       .rival = "compare and branch",
                       .unit = "allocations",
                       .measure = measure});
}

}  // namespace pagetrap::bench
