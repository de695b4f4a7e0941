// pager.break_even: page faults or a check at every access? A miss by fault costs more, a hit costs
// nothing: from how many accesses per miss on does the fault pay?
#include <string>
#include <vector>

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "pager/questions.hpp"
#include "pager/roots.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::uint64_t kMisses = 2000;
constexpr std::uint64_t kHits = 200'000;

/// One read of each of `count` pages that are not there.
template <class Table>
double miss_ns(Table&& table, std::uint64_t& random, Report& report) {
  const std::uint64_t pages = (std::uint64_t{1} << 30) >> page_shift();
  double sum = 0;
  const double elapsed = time_ns([&] {
    for (std::uint64_t i = 0; i < kMisses; ++i)
      sum += table[next_random(random) % pages * roots_per_page() + 1];
  });
  report.check(sum > 0, "the roots have no sum");
  return elapsed / static_cast<double>(kMisses);
}

template <class Table>
double hit_ns(Table&& table, Report& report) {
  constexpr std::uint64_t kHotPages = 128;
  double sum = 0;
  const auto read = [&] {
    std::uint64_t random = 9;
    for (std::uint64_t i = 0; i < kHits; ++i)
      sum += table[next_random(random) % (kHotPages * roots_per_page())];
  };
  read();  // all there from here on
  const double elapsed = time_ns(read);
  report.check(sum > 0, "the roots have no sum");
  return elapsed / static_cast<double>(kHits);
}

double share_of(std::vector<double> values, std::size_t percent) {
  std::sort(values.begin(), values.end());
  return values[values.size() * percent / 100];
}

void measure(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  PagedTable paged(false);
  Roots source = roots();
  auto checked = pager::CheckedView<double>::create(source, kTablePages).value();
  std::uint64_t random = 5;
  std::vector<double> misses;
  std::vector<double> hits;
  interleave(
      with_fewer_pairs(effort, 7), report,
      [&] {
        const double fault = miss_ns(paged.entries(), random, report);
        const double call = miss_ns(checked, random, report);
        misses.push_back(fault - call);
        return fault;
      },
      [&] {
        const double by_check = hit_ns(checked, report);
        hits.push_back(by_check - hit_ns(paged.entries(), report));
        return miss_ns(checked, random, report);
      });
  BreakEven row;
  row.application = "computed table";
  row.fault_mechanism =
      std::string("a miss by fault, less one by call, ") + name(paged.region().backend());
  row.fault_ns = share_of(misses, 50);
  row.instruction = "the check of a hit (CheckedView)";
  row.instruction_ns = share_of(hits, 50);
  if (row.instruction_ns > 0) {
    row.accesses_per_fault = row.fault_ns / row.instruction_ns;
    row.low = share_of(misses, 10) / share_of(hits, 90);
    if (share_of(hits, 10) > 0) row.high = share_of(misses, 90) / share_of(hits, 10);
  }
  report.break_even(row);
  // The curve: mean cost of an access when one in so many misses.
  for (const double accesses : {100.0, 1000.0, 3000.0, 10'000.0, 100'000.0}) {
    const double gain = row.instruction_ns * accesses - row.fault_ns;
    report.parameter(
        "fault_saves_ns_per_access_at_1_miss_in_" + std::to_string(static_cast<int>(accesses)),
        gain / accesses);
  }
}

}  // namespace

void add_table_break_even(Questions& questions) {
  questions.push_back({.id = "pager.break_even",
                       .asks = "a miss by page fault against one by a checked access, and from how "
                               "many accesses per miss on the fault pays",
                       .ours = "a miss of pager::Region",
                       .rival = "a miss of pager::CheckedView",
                       .unit = "ns",
                       .measure = measure});
}

}  // namespace pagetrap::bench
