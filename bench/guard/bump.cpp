// guard.bump.nursery_*: allocation whose limit check is a guard page, against the same with a
// comparison and a branch, refills included.
//
// The nursery is refilled with itself, as that of a collector which finds nothing alive: what is
// compared is the check and the trap, not what is done with full nurseries.
#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "guard/bump_side.hpp"
#include "guard/questions.hpp"
#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "harness/statistics.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kAllocations = 1 << 18;  // of each loop in a batch; two nurseries of 4 MiB

using Costs = std::array<std::vector<double>, kBumpLoops.size()>;

template <class Limit>
double all_loops(BumpSide<Limit>& side, Costs& costs, Report& report) {
  const std::size_t before = side.refills();
  double sum = 0;
  for (std::size_t loop = 0; loop < kBumpLoops.size(); ++loop) {
    costs[loop].push_back(side.time(loop, kAllocations));
    sum += costs[loop].back();
  }
  report.check(side.refills() > before, "no nursery filled");
  return sum / static_cast<double>(kBumpLoops.size());
}

template <std::size_t kNurseryBytes>
void measure(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  BumpSide<guard::GuardPage> ours(kNurseryBytes, report);
  BumpSide<guard::CompareAndBranch> rival(kNurseryBytes, report);
  Costs our_costs;
  Costs rival_costs;
  interleave(
      effort, report, [&] { return all_loops(ours, our_costs, report); },
      [&] { return all_loops(rival, rival_costs, report); });
  report.parameter("nursery_bytes", static_cast<double>(kNurseryBytes));
  for (std::size_t loop = 0; loop < kBumpLoops.size(); ++loop) {
    const std::string name = kBumpLoops[loop].parameter;
    report.parameter(name + "_guard_ns", median(our_costs[loop]));
    report.parameter(name + "_compare_ns", median(rival_costs[loop]));
  }
}

void add(Questions& questions, const char* id, void (*how)(const Effort&, Report&)) {
  questions.push_back({.id = id,
                       .asks = "an allocation, mean of four loops, refills included",
                       .ours = "bump allocation, guard page",
                       .rival = "bump allocation, compare and branch",
                       .unit = "ns",
                       .measure = how});
}

}  // namespace

void add_bump(Questions& questions) {
  add(questions, "guard.bump.nursery_64k", measure<64_KiB>);
  add(questions, "guard.bump.nursery_512k", measure<512_KiB>);
  add(questions, "guard.bump.nursery_4m", measure<4_MiB>);
}

}  // namespace pagetrap::bench
