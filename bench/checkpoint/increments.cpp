// checkpoint.incremental_1pct: ten checkpoints a second of a heap of which a hundredth is in use.
// checkpoint.bytes_incremental: how much larger than the pages written is an increment?
#include <algorithm>
#include <numeric>
#include <random>

#include "checkpoint/questions.hpp"
#include "checkpoint/snapshots.hpp"
#include "rivals/fork_save.hpp"

namespace pagetrap::bench {

namespace {

constexpr double kPeriodNs = 100e6;

enum Note : std::size_t { our_window, pages_written, our_share, rival_share };

/// Work lost to one snapshot, and what share of all that is, when `take()` is called ten times a
/// second. The rate without is measured before and after: their mean is what should have been.
template <class Take>
std::pair<double, double> lost_by_series(std::byte* heap, std::size_t size_bytes, int snapshots,
                                         long without_ms, Take&& take) {
  Pattern pattern;
  pattern.only_bytes = size_bytes / 100;
  Writers writers(heap, size_bytes, pattern);
  sleep_ms(50 + without_ms);
  const double begin = now_ns();
  for (int i = 0; i < snapshots; ++i) {
    take();
    const double due = begin + (i + 1) * kPeriodNs;
    const double left_ms = (due - now_ns()) / 1e6;
    if (left_ms > 0) sleep_ms(static_cast<long>(left_ms));
  }
  const double end = now_ns();
  sleep_ms(50 + without_ms);
  const double after = now_ns();
  writers.stop();
  const double without = static_cast<double>(without_ms) * 1e6;
  const double rate =
      (writers.accesses(begin - without, begin) + writers.accesses(after - without, after)) /
      (2 * without);
  const double lost = end - begin - writers.accesses(begin, end) / rate;
  return {lost / snapshots, lost / (end - begin)};
}

void measure_series(const Effort& effort, Report& report) {
  require_cut(report, {});
  const int snapshots = effort.quick ? 8 : 20;
  const long without_ms = effort.quick ? 300 : 1000;
  SidesPlan plan;
  plan.heap_bytes = kGiB;
  plan.warm_up = false;
  plan.memory_bytes = static_cast<double>(kGiB) * 3.2;
  plan.quick_pairs = 1;
  plan.full_pairs = 9;
  report.parameter("threads", Writers::kThreads);
  report.parameter("snapshots", snapshots);
  Notes notes({"save_ours_ms", "pages_written", "share_of_work_ours", "share_of_work_rival"});
  measure_sides(
      effort, report, plan,
      [&]() -> Peer::Batch {
        auto heap = std::make_shared<ArenaHeap>(kGiB, checkpoint::CheckpointerOptions{}, report);
        if (!heap->checkpointer().tracks_writes())
          report.skip("no tracking of writes: increments need Linux 6.7");
        NamedNullSink sink;
        heap->save(sink);
        return [=, &report, &notes] {
          const auto [lost, share] =
              lost_by_series(heap->data(), heap->size_bytes(), snapshots, without_ms, [&] {
                NamedNullSink forgetful;
                const auto saved = heap->checkpointer().checkpoint(forgetful);
                if (!saved) report.fail(describe(saved.error()));
                notes.add(our_window, saved->save_us / 1e3);
                notes.add(pages_written, static_cast<double>(saved->pages_written));
              });
          notes.add(our_share, share);
          return lost;
        };
      },
      [&]() -> Peer::Batch {
        auto heap = std::make_shared<PlainHeap>(kGiB);
        return [=, &notes] {
          // The child ends at once: it cannot know what to write, so it is spared that.
          const auto [lost, share] =
              lost_by_series(heap->data(), heap->size_bytes(), snapshots, without_ms, [&] {
                const rivals::ForkSave snapshot(heap->data(), heap->size_bytes(),
                                                rivals::ForkedChild::waits);
              });
          notes.add(rival_share, share);
          return lost;
        };
      });
  notes.report(report);
}

void measure_bytes(const Effort& effort, Report& report) {
  require_cut(report, {});
  const std::size_t size = effort.quick ? kGiB / 4 : kGiB;
  require_memory(report, static_cast<double>(size) * 1.5);
  ArenaHeap heap(size, {}, report);
  if (!heap.checkpointer().tracks_writes())
    report.skip("no tracking of writes: increments need Linux 6.7");
  report.parameter("bytes", static_cast<double>(heap.size_bytes()));
  NamedNullSink sink;
  heap.save(sink);
  std::vector<std::size_t> pages(heap.size_bytes() >> page_shift());
  std::iota(pages.begin(), pages.end(), std::size_t{0});
  std::mt19937_64 random(5);
  for (int round = 0; round < (effort.quick ? 5 : 25); ++round) {
    std::shuffle(pages.begin(), pages.end(), random);
    const std::size_t dirty = pages.size() / 100;
    for (std::size_t i = 0; i < dirty; ++i)
      *reinterpret_cast<volatile std::uint64_t*>(heap.data() + pages[i] * page_size() + 16) =
          random() | 1;
    NamedNullSink forgetful;
    const auto saved = heap.checkpointer().checkpoint(forgetful);
    if (!saved) report.fail(describe(saved.error()));
    report.check(saved->pages_written >= dirty, "an increment lacks a written page");
    report.pair(static_cast<double>(saved->bytes), static_cast<double>(dirty * page_size()));
  }
}

}  // namespace

void add_increments(Questions& questions) {
  questions.push_back({.id = "checkpoint.incremental_1pct",
                       .asks = "work lost by each of ten checkpoints a second, 1% of 1 GiB in use",
                       .ours = "work lost by an increment",
                       .rival = "fork(), child ends at once",
                       .unit = "ns",
                       .target = 0.2,
                       .measure = measure_series,
                       .scheduling = Scheduling::fair_group,
                       .bound = "a fault for each unit in use"});
  questions.push_back(
      {.id = "checkpoint.bytes_incremental",
       .asks = "bytes of an increment for each byte of the pages written, 1% of all",
       .ours = "bytes of the increment",
       .rival = "bytes of the pages written",
       .unit = "bytes",
       .target = 1.05,
       .measure = measure_bytes});
}

}  // namespace pagetrap::bench
