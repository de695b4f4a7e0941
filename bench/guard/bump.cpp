// guard.bump.nursery_*: allocation whose limit check is a guard page, against the same with a
// comparison and a branch, refills included.
//
// The nursery is refilled with itself, as that of a collector which finds nothing alive: what is
// compared is the check and the trap, not what is done with full nurseries.
#include <array>
#include <cstddef>
#include <string>
#include <utility>
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

template <std::size_t kNurseryBytes, std::size_t kLoop>
void measure_one(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  BumpSide<guard::GuardPage> ours(kNurseryBytes, report);
  BumpSide<guard::CompareAndBranch> rival(kNurseryBytes, report);
  interleave(
      effort, report, [&] { return ours.time(kLoop, kAllocations); },
      [&] { return rival.time(kLoop, kAllocations); });
  report.parameter("nursery_bytes", static_cast<double>(kNurseryBytes));
}

void add(Questions& questions, std::string id, std::string asks,
         void (*how)(const Effort&, Report&)) {
  questions.push_back({.id = std::move(id),
                       .asks = std::move(asks),
                       .ours = "bump allocation, guard page",
                       .rival = "bump allocation, compare and branch",
                       .unit = "ns",
                       .measure = how});
}

template <std::size_t kNurseryBytes, std::size_t... kLoop>
void add_size(Questions& questions, const std::string& id, std::index_sequence<kLoop...>) {
  add(questions, id, "an allocation, mean of four loops, refills included", measure<kNurseryBytes>);
  (add(questions, id + "." + kBumpLoops[kLoop].parameter,
       std::string("an allocation, refills included: ") + kBumpLoops[kLoop].name,
       measure_one<kNurseryBytes, kLoop>),
   ...);
}

}  // namespace

void add_bump(Questions& questions) {
  constexpr std::make_index_sequence<kBumpLoops.size()> kAll;
  add_size<64_KiB>(questions, "guard.bump.nursery_64k", kAll);
  add_size<512_KiB>(questions, "guard.bump.nursery_512k", kAll);
  add_size<4_MiB>(questions, "guard.bump.nursery_4m", kAll);
}

}  // namespace pagetrap::bench
