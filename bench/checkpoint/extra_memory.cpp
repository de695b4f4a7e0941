// checkpoint.extra_memory_hot: how much more memory does the program need while it is saved? Ours:
// what the kernel says was resident at most, over what was before; everything is in that. fork():
// the pages that are the parent's alone when the child has saved all, because it copied them.
#include <fstream>
#include <string>

#include "checkpoint/questions.hpp"
#include "checkpoint/snapshots.hpp"

namespace pagetrap::bench {

namespace {

double resident() { return sum_of_lines("/proc/self/status", {"VmRSS:"}); }
double most_resident() { return sum_of_lines("/proc/self/status", {"VmHWM:"}); }
double own_alone() {
  return sum_of_lines("/proc/self/smaps_rollup", {"Private_Clean:", "Private_Dirty:"});
}

void forget_most_resident(Report& report) {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  report.check(file.good(), "/proc/self/clear_refs cannot be written");
}

enum Note : std::size_t { by_statistics, waits };

void measure(const Effort& effort, Report& report) {
  require_cut(report, full_images(false));
  SidesPlan plan;
  plan.heap_bytes = kGiB;
  plan.warm_up = false;
  plan.memory_bytes = static_cast<double>(kGiB) * 4.2;
  plan.quick_pairs = 1;
  plan.full_pairs = 7;
  SnapshotPlan watch;
  watch.pattern.hot = true;
  Notes notes({"peak_extra_bytes", "waits_for_memory"});
  measure_sides(
      effort, report, plan,
      [&]() -> Peer::Batch {
        auto heap = std::make_shared<ArenaHeap>(kGiB, full_images(false), report);
        return [heap, watch, &report, &notes] {
          double before = 0;
          SnapshotPlan from_here = watch;
          from_here.at_begin = [&] {
            forget_most_resident(report);
            before = resident();
          };
          checkpoint::Statistics statistics;
          save_arena(*heap, from_here, &statistics);
          notes.add(by_statistics, static_cast<double>(statistics.peak_extra_bytes));
          notes.add(waits, static_cast<double>(statistics.waits_for_memory));
          return most_resident() - before;
        };
      },
      [&]() -> Peer::Batch {
        auto heap = std::make_shared<PlainHeap>(kGiB);
        return [heap, watch] {
          const double elsewhere = own_alone() - static_cast<double>(heap->size_bytes());
          double copied = 0;
          save_by_fork(*heap, watch, [&] { copied = own_alone() - elsewhere; });
          return copied;
        };
      });
  notes.report(report);
}

}  // namespace

void add_extra_memory(Questions& questions) {
  questions.push_back(
      {.id = "checkpoint.extra_memory_hot",
       .asks = "memory that a checkpoint of 1 GiB takes, 9 of 10 accesses to a tenth of it",
       .ours = "peak of resident memory over what was before",
       .rival = "pages that fork() had to copy",
       .unit = "bytes",
       .target = 0.5,
       .measure = measure,
       .scheduling = Scheduling::fair_group,
       .bound = "options.extra_memory, a tenth of the heap; fork() copies what is written"});
}

}  // namespace pagetrap::bench
