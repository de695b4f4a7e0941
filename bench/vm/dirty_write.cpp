// vm.dirty_write: what does the first write to a clean tracked page cost the program?
#include <cstddef>

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "rivals/write_trackers.hpp"
#include "vm/dirty_sides.hpp"
#include "vm/questions.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kSizeBytes = 256_MiB;
constexpr std::size_t kWrites = 512;  // scattered: the rival's mapping is in some 1000 pieces

void measure(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  PageDeck deck(kSizeBytes >> page_shift());
  TrackedRegion ours(kSizeBytes, DirtyForm::scan, report);
  rivals::WriteTracker<rivals::MprotectTrap> rival(kSizeBytes);
  report.parameter("bytes", kSizeBytes);
  report.parameter("writes_per_batch", kWrites);
  interleave(
      effort, report,
      [&] {
        const auto pages = deck.deal(kWrites);
        const double elapsed = time_ns([&] { write_pages(ours, pages); });
        ours.collect();
        report.check(are_exactly(ours.found(), pages, ours.page(0)), "DIRTY missed pages");
        return elapsed / kWrites;
      },
      [&] {
        const auto pages = deck.deal(kWrites);
        const rivals::MprotectTrap::Armed armed;
        const double elapsed = time_ns([&] { write_pages(rival, pages); });
        report.check(are_exactly(rival.written(), pages, rival.page(0)), "the rival missed pages");
        rival.rearm_each();
        return elapsed / kWrites;
      });
}

}  // namespace

void add_dirty_write(Questions& questions) {
  questions.push_back({.id = "vm.dirty_write",
                       .asks = "the first write to a clean tracked page",
                       .ours = "first write to a page tracked by DIRTY",
                       .rival = "first write to a page tracked by mprotect + SIGSEGV",
                       .unit = "ns",
                       .target = 0.25,
                       .measure = measure,
                       .bound = "the page fault itself, which the kernel resolves"});
}

}  // namespace pagetrap::bench
