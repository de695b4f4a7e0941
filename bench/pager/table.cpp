// pager.table_*: a computed table larger than memory, against the homework's way, against plain
// memory that was filled before, and against the twin that checks each access in software.
#include <memory>
#include <optional>
#include <vector>

#include "harness/cpus.hpp"
#include "harness/mapping.hpp"
#include "harness/pairs.hpp"
#include "pager/questions.hpp"
#include "pager/roots.hpp"
#include "rivals/homework_table.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::uint64_t kPagesOfRun = 2048;
constexpr std::uint64_t kReads = 5000;

void describe_table(Report& report) {
  report.parameter("table_bytes", static_cast<double>(kTableBytes));
  report.parameter("resident_pages", static_cast<double>(kTablePages));
}

/// The program on one CPU. The helper was started before, and may use them all.
std::unique_ptr<PagedTable> table_with_helper() {
  unpin();
  auto table = std::make_unique<PagedTable>(true);
  pin_to_cpu(0);
  return table;
}

/// Where each run begins: never where one was before.
class Runs {
 public:
  std::uint64_t next() noexcept {
    const std::uint64_t first = next_;
    next_ = (next_ + 2 * kPagesOfRun) % ((kTableBytes >> page_shift()) - kPagesOfRun);
    return first;
  }

 private:
  std::uint64_t next_ = 12345;
};

/// Nanoseconds a page of one run through `table`.
template <class Table>
double run_through(Table&& table, std::uint64_t first, Report& report) {
  double sum = 0;
  const double elapsed = time_ns([&] { sum = sum_pages(table, first, kPagesOfRun); });
  check_sum(report, sum, first, kPagesOfRun);
  return elapsed / static_cast<double>(kPagesOfRun);
}

void measure_seq(const Effort& effort, Report& report) {
  describe_table(report);
  const auto ours = table_with_helper();
  rivals::HomeworkTable rival(kTableBytes);
  Runs runs;
  interleave(
      with_fewer_pairs(effort, 5), report,
      [&] { return run_through(ours->entries(), runs.next(), report); },
      [&] {
        const rivals::HomeworkTable::Armed armed;
        return run_through(rival.entries(), runs.next(), report);
      });
  const auto seen = ours->region().statistics();
  report.parameter("faults_per_page",
                   static_cast<double>(seen.faults) / static_cast<double>(seen.filled));
  report.parameter("prefetched_share",
                   static_cast<double>(seen.prefetched) / static_cast<double>(seen.filled));
}

void measure_seq_plain(const Effort& effort, Report& report) {
  describe_table(report);
  const auto ours = table_with_helper();
  // Filled in full before, and far larger than any cache.
  constexpr std::uint64_t kPlainPages = 16 * kPagesOfRun;
  const Mapping plain(bytes(Pages{kPlainPages}));
  auto* const entries = reinterpret_cast<double*>(plain.data());
  for (std::uint64_t i = 0; i < kPlainPages * roots_per_page(); ++i)
    entries[i] = std::sqrt(static_cast<double>(i));
  const volatile double* const rival = entries;
  Runs runs;
  std::uint64_t run = 0;
  interleave(
      with_fewer_pairs(effort, 5), report,
      [&] { return run_through(ours->entries(), runs.next(), report); },
      [&] { return run_through(rival, (run++ % 16) * kPagesOfRun, report); });
}

template <class Table>
double read_at_random(Table&& table, std::uint64_t& random, std::uint64_t entries, Report& report) {
  double sum = 0;
  double right = 0;
  std::uint64_t state = random;
  const double elapsed = time_ns([&] {
    for (std::uint64_t i = 0; i < kReads; ++i) sum += table[next_random(random) % entries];
  });
  for (std::uint64_t i = 0; i < kReads; ++i)
    right += std::sqrt(static_cast<double>(next_random(state) % entries));
  report.check(sum == right, "the table's roots are wrong");
  return elapsed / static_cast<double>(kReads);
}

void measure_random(const Effort& effort, Report& report) {
  describe_table(report);
  pin_to_cpu(0);
  PagedTable ours(false);
  std::optional<rivals::HomeworkTable> rival;
  constexpr std::uint64_t kEntries = (std::uint64_t{1} << 30) / sizeof(double);
  std::uint64_t random = 3;
  unsigned batches = 0;
  interleave(
      with_fewer_pairs(effort, 7), report,
      [&] { return read_at_random(ours.entries(), random, kEntries, report); },
      [&] {
        // It leaves a mapping or two behind for each page, and a process may have 65530.
        if (batches++ % 4 == 0) {
          rival.reset();
          rival.emplace(kTableBytes);
        }
        const rivals::HomeworkTable::Armed armed;
        return read_at_random(rival->entries(), random, kEntries, report);
      });
}

void measure_hit(const Effort& effort, Report& report) {
  describe_table(report);
  pin_to_cpu(0);
  PagedTable ours(false, 2 * kTablePages);
  Roots source = roots();
  auto rival = pager::CheckedView<double>::create(source, kTablePages).value();
  constexpr std::uint64_t kHotPages = 200;
  const std::uint64_t entries = kHotPages * roots_per_page();
  double sum = 0;
  for (std::uint64_t i = 0; i < entries; ++i) sum += ours.entries()[i] - rival[i];
  report.check(sum == 0, "the two tables differ");
  constexpr int kRepeats = 100;
  const auto hot_reads = [&](auto&& table) {
    std::uint64_t random = 9;
    double total = 0;
    const double elapsed = time_ns([&] {
      for (std::uint64_t i = 0; i < kRepeats * kReads; ++i)
        total += table[next_random(random) % entries];
    });
    report.check(total > 0, "the roots have no sum");
    return elapsed / static_cast<double>(kRepeats * kReads);
  };
  const std::uint64_t before = ours.region().statistics().faults + rival.misses();
  interleave(
      effort, report, [&] { return hot_reads(ours.entries()); }, [&] { return hot_reads(rival); });
  report.check(ours.region().statistics().faults + rival.misses() == before, "a hit was not a hit");
}

}  // namespace

void add_table(Questions& questions) {
  const char* const ours = "pager::Region over a function";
  questions.push_back({.id = "pager.table_seq",
                       .asks = "a page of a computed table, read from start to end",
                       .ours = "pager::Region over a function, read ahead",
                       .rival = rivals::HomeworkTable::kName,
                       .unit = "ns",
                       .target = 0.2,
                       .measure = measure_seq});
  questions.push_back({.id = "pager.table_seq.plain",
                       .asks = "the same against memory that was filled before",
                       .ours = "pager::Region over a function, read ahead",
                       .rival = "plain memory, filled before",
                       .unit = "ns",
                       .target = 2.0,
                       .measure = measure_seq_plain,
                       .bound = "computing, copying and unmapping a page, shared by two CPUs"});
  questions.push_back({.id = "pager.table_random",
                       .asks = "a random read of a computed table, most of them misses",
                       .ours = ours,
                       .rival = rivals::HomeworkTable::kName,
                       .unit = "ns",
                       .target = 0.45,
                       .measure = measure_random,
                       .bound = "a signal and UFFDIO_COPY, about 5 us"});
  questions.push_back({.id = "pager.table_hit",
                       .asks = "a random read that hits",
                       .ours = ours,
                       .rival = "pager::CheckedView, the check in software",
                       .unit = "ns",
                       .target = 0.7,
                       .measure = measure_hit});
}

}  // namespace pagetrap::bench
