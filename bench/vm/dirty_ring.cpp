// vm.dirty_ring: few pages of many are written; find them without looking at all the others.
//
// Both sides do the whole interval: the first writes to 4 random pages of 1 GiB, finding them, and
// arming them again. The rival is the fastest trap there is: userfaultfd in the faulting thread.
#include <cstddef>
#include <string>
#include <vector>

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "rivals/write_trackers.hpp"
#include "vm/dirty_sides.hpp"
#include "vm/questions.hpp"
#include "vm/trap_sides.hpp"

namespace pagetrap::bench {

namespace {

using Rival = rivals::WriteTracker<rivals::UffdInlineTrap>;
using SlowerRival = rivals::WriteTracker<rivals::MprotectTrap>;

constexpr std::size_t kSizeBytes = 1_GiB;
constexpr std::size_t kWrites = 4;
constexpr int kIntervals = 100;  // a batch

double time_our_intervals(TrackedRegion& ours, PageDeck& deck, Report& report) {
  double elapsed = 0;
  for (int i = 0; i < kIntervals; ++i) {
    const auto pages = deck.deal(kWrites);
    elapsed += time_ns([&] {
      write_pages(ours, pages);
      ours.collect();
    });
    report.check(are_exactly(ours.found(), pages, ours.page(0)), "DIRTY missed or made up pages");
  }
  return elapsed / kIntervals / kWrites;
}

template <class Trap>
double time_rival_intervals(rivals::WriteTracker<Trap>& rival, PageDeck& deck, Report& report) {
  const typename Trap::Armed armed;
  double elapsed = 0;
  for (int i = 0; i < kIntervals; ++i) {
    const auto pages = deck.deal(kWrites);
    elapsed += time_ns([&] { write_pages(rival, pages); });
    report.check(are_exactly(rival.written(), pages, rival.page(0)), "the rival missed pages");
    elapsed += time_ns([&] { rival.rearm_each(); });
  }
  return elapsed / kIntervals / kWrites;
}

/// The traps that most programs use, as a parameter.
void measure_against_mprotect(TrackedRegion& ours, PageDeck& deck, Report& report) {
  SlowerRival rival(kSizeBytes);
  time_rival_intervals(rival, deck, report);
  std::vector<double> ratios;
  for (int i = 0; i < 5; ++i) {
    const double our_cost = time_our_intervals(ours, deck, report);
    ratios.push_back(our_cost / time_rival_intervals(rival, deck, report));
  }
  report.parameter("ratio_against_mprotect_tracking", median(ratios));
}

void measure(const Effort& effort, Report& report) {
  if (const std::string reason = why_not(BackendId::uffd_inline); !reason.empty()) {
    report.skip("no userfaultfd for the rival: " + reason);
  }
  pin_to_cpu(0);
  PageDeck deck(kSizeBytes >> page_shift());
  TrackedRegion ours(kSizeBytes, DirtyForm::ring, report);
  Rival rival(kSizeBytes);
  report.parameter("bytes", kSizeBytes);
  report.parameter("written_pages", kWrites);
  interleave(
      effort, report, [&] { return time_our_intervals(ours, deck, report); },
      [&] { return time_rival_intervals(rival, deck, report); });
  measure_against_mprotect(ours, deck, report);
}

}  // namespace

void add_dirty_ring(Questions& questions) {
  questions.push_back(
      {.id = "vm.dirty_ring",
       .asks = "write 4 random pages of 1 GiB, find and re-arm them",
       .ours = "dirty ring: first write + finding + re-arming, per page",
       .rival = "write-protect trap in the faulting thread, the same",
       .unit = "ns",
       .target = 0.5,
       .measure = measure,
       .bound = "the write fault with its sample, 1.5 us, and arming each page, 0.9 to 1.3 us"});
}

}  // namespace pagetrap::bench
