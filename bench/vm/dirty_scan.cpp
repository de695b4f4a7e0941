// vm.dirty_scan_*: what does a DIRTY call over 1 GiB cost, against tracking by mprotect traps?
//
// Trap tracking has no cost per call worth naming: it pays in its faults, and in arming again. So
// the rows dirty_scan_clean and dirty_scan_1pct set our call alone against the whole interval of
// the rival in which 1 % of the pages is written. That leaves out our own first writes, which the
// kernel resolves but which are not free: dirty_interval_1pct is the same interval with the writes
// timed on both sides, and the fairest of the three.
#include <cstddef>
#include <vector>

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "rivals/write_trackers.hpp"
#include "vm/dirty_sides.hpp"
#include "vm/questions.hpp"

namespace pagetrap::bench {

namespace {

using MprotectTracker = rivals::WriteTracker<rivals::MprotectTrap>;

constexpr std::size_t kSizeBytes = 1_GiB;

struct Interval {
  double writes_ns = 0;
  double call_ns = 0;
};

class Sides {
 public:
  explicit Sides(Report& report)
      : pages_((kSizeBytes >> page_shift()) / 100),
        report_(report),
        deck_(kSizeBytes >> page_shift()),
        ours_(kSizeBytes, DirtyForm::scan, report),
        rival_(kSizeBytes) {
    report.parameter("bytes", kSizeBytes);
    report.parameter("written_pages", static_cast<double>(pages_));
    choose_how_to_rearm();
  }

  /// Writes 1 % of our pages and collects them.
  Interval our_interval() {
    const auto pages = deck_.deal(pages_);
    Interval interval;
    interval.writes_ns = time_ns([&] { write_pages(ours_, pages); });
    interval.call_ns = time_ns([&] { ours_.collect(); });
    report_.check(are_exactly(ours_.found(), pages, ours_.page(0)),
                  "DIRTY missed or made up pages");
    return interval;
  }

  double our_clean_call() {
    const double elapsed = time_ns([&] { ours_.collect(); });
    report_.check(ours_.found().empty(), "pages are dirty that nobody wrote");
    return elapsed;
  }

  Interval rival_interval() {
    const auto pages = deck_.deal(pages_);
    Interval interval;
    {
      const rivals::MprotectTrap::Armed armed;
      interval.writes_ns = time_ns([&] { write_pages(rival_, pages); });
    }
    report_.check(are_exactly(rival_.written(), pages, rival_.page(0)), "the rival missed pages");
    interval.call_ns = time_ns([&] { rearm(); });
    return interval;
  }

  /// What a DIRTY call costs the rival when nothing was written.
  double rival_clean_call() {
    constexpr int kCalls = 1000;
    return time_ns([&] {
             for (int i = 0; i < kCalls; ++i) rearm();
           }) /
           kCalls;
  }

  [[nodiscard]] double pages() const noexcept { return static_cast<double>(pages_); }

 private:
  void rearm() { rearm_whole_ ? rival_.rearm_whole() : rival_.rearm_each(); }

  void choose_how_to_rearm() {
    rearm_whole_ = true;
    const double whole = rival_interval().call_ns;
    rearm_whole_ = false;
    const double each = rival_interval().call_ns;
    rearm_whole_ = whole < each;
    report_.parameter("rival_rearms", rearm_whole_ ? "all pages in one call" : "page by page");
  }

  std::size_t pages_;
  Report& report_;
  PageDeck deck_;
  TrackedRegion ours_;
  MprotectTracker rival_;
  bool rearm_whole_ = false;
};

double total(const Interval& interval) { return interval.writes_ns + interval.call_ns; }

void measure_clean(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  Sides sides(report);
  interleave(
      with_fewer_pairs(effort, 5), report, [&] { return sides.our_clean_call(); },
      [&] { return total(sides.rival_interval()); });
  report.parameter("rival_call_ns_if_nothing_was_written", sides.rival_clean_call());
}

void measure_one_percent(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  Sides sides(report);
  interleave(
      with_fewer_pairs(effort, 5), report, [&] { return sides.our_interval().call_ns; },
      [&] { return total(sides.rival_interval()); });
}

void measure_interval(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  Sides sides(report);
  std::vector<double> our_write;
  std::vector<double> rival_page;
  interleave(
      with_fewer_pairs(effort, 5), report,
      [&] {
        const Interval interval = sides.our_interval();
        our_write.push_back(interval.writes_ns / sides.pages());
        return total(interval);
      },
      [&] {
        const Interval interval = sides.rival_interval();
        rival_page.push_back(total(interval) / sides.pages());
        return total(interval);
      });
  // Below so many written pages the scan of all others is not worth it.
  const double saved_per_page = median(rival_page) - median(our_write);
  report.parameter("our_first_write_ns", median(our_write));
  report.parameter("rival_ns_per_page", median(rival_page));
  report.parameter("pays_from_pages_per_call", sides.our_clean_call() / saved_per_page);
}

}  // namespace

void add_dirty_scan(Questions& questions) {
  const char* const rival = "mprotect tracking, 1% written: faults + re-arming";
  questions.push_back({.id = "vm.dirty_scan_clean",
                       .asks = "a DIRTY call over 1 GiB when nothing was written",
                       .ours = "DIRTY call, nothing written",
                       .rival = rival,
                       .unit = "ns",
                       .target = 0.05,
                       .measure = measure_clean,
                       .bound = "the kernel looks at each page-table entry, 4 ns"});
  questions.push_back({.id = "vm.dirty_scan_1pct",
                       .asks = "a DIRTY call over 1 GiB when 1% of the pages was written",
                       .ours = "DIRTY call, 1% written before (writes not timed)",
                       .rival = rival,
                       .unit = "ns",
                       .target = 0.05,
                       .measure = measure_one_percent,
                       .bound = "the kernel looks at each page-table entry, 4 ns"});
  questions.push_back({.id = "vm.dirty_interval_1pct",
                       .asks = "the same with the first writes timed on both sides",
                       .ours = "first writes to 1% + DIRTY call",
                       .rival = rival,
                       .unit = "ns",
                       .measure = measure_interval});
}

}  // namespace pagetrap::bench
