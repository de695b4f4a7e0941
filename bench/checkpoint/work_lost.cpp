// checkpoint.work_lost_*: how much work do two threads not do because of a checkpoint, until some
// time after it, when they have their old speed again? What fork() leaves behind, a fault for each
// page that is written again, is in it.
#include "checkpoint/questions.hpp"
#include "checkpoint/snapshots.hpp"

namespace pagetrap::bench {

namespace {

enum Note : std::size_t { our_time, rival_time, faults };

template <bool Hot, bool Handlers>
void measure(const Effort& effort, Report& report) {
  if (Handlers) only_in_full_run(effort, report);
  const checkpoint::CheckpointerOptions options = full_images(Handlers);
  require_cut(report, options);
  SidesPlan plan;
  plan.heap_bytes = kGiB;
  plan.warm_up = false;
  plan.memory_bytes = static_cast<double>(kGiB) * 4.2;
  plan.quick_pairs = 2;
  plan.full_pairs = 9;
  SnapshotPlan watch;
  watch.pattern.hot = Hot;
  watch.before_ms = effort.quick ? 250 : 500;
  watch.settle_ms = effort.quick ? 500 : 1000;
  report.parameter("threads", Writers::kThreads);
  report.parameter("settle_ms", static_cast<double>(watch.settle_ms));
  Notes notes({"save_ours_ms", "save_rival_ms", "faults"});
  measure_sides(
      effort, report, plan,
      [&]() -> Peer::Batch {
        auto heap = std::make_shared<ArenaHeap>(kGiB, options, report);
        return [heap, watch, &notes] {
          checkpoint::Statistics statistics;
          const Snapshot seen = save_arena(*heap, watch, &statistics);
          notes.add(our_time, seen.during_ns / 1e6);
          notes.add(faults, static_cast<double>(statistics.faults));
          return seen.lost_ns;
        };
      },
      [&]() -> Peer::Batch {
        auto heap = std::make_shared<PlainHeap>(kGiB);
        return [heap, watch, &notes] {
          const Snapshot seen = save_by_fork(*heap, watch);
          notes.add(rival_time, seen.during_ns / 1e6);
          return seen.lost_ns;
        };
      });
  notes.report(report);
}

Question question(const char* id, const char* where, double target,
                  void (*measure)(const Effort&, Report&)) {
  return {
      .id = id,
      .asks = std::string("work lost by a checkpoint of 1 GiB, accesses ") + where,
      .ours = std::string("work lost, accesses ") + where,
      .rival = "fork(), child copies all to /dev/null",
      .unit = "ns",
      .target = target,
      .measure = measure,
      .scheduling = Scheduling::fair_group,
      .bound = "a fault, a copy and an interrupt of the other CPUs for each 64 to 256 KiB written"};
}

}  // namespace

void add_work_lost(Questions& questions) {
  questions.push_back(
      question("checkpoint.work_lost_uniform", "everywhere", 1.0, measure<false, false>));
  questions.push_back(question("checkpoint.work_lost_hot", "9 of 10 to a tenth of the heap", 0.7,
                               measure<true, false>));
  questions.push_back(question("checkpoint.work_lost_uniform.handlers",
                               "everywhere, faults in handler threads", 1.0, measure<false, true>));
  questions.push_back(question("checkpoint.work_lost_hot.handlers",
                               "9 of 10 to a tenth of the heap, faults in handler threads", 0.7,
                               measure<true, true>));
}

}  // namespace pagetrap::bench
