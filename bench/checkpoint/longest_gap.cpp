// checkpoint.longest_gap_*: the longest time that a thread makes no progress, from the beginning of
// a checkpoint to its end. Two threads, everywhere in the heap: the worst case.
#include "checkpoint/questions.hpp"
#include "checkpoint/snapshots.hpp"

namespace pagetrap::bench {

namespace {

enum Note : std::size_t { our_time, rival_time, faults, at };

template <std::size_t Size, bool Handlers>
void measure(const Effort& effort, Report& report) {
  if (Size > kGiB || Handlers) only_in_full_run(effort, report);
  const checkpoint::CheckpointerOptions options = full_images(Handlers);
  require_cut(report, options);
  SidesPlan plan;
  plan.heap_bytes = Size;
  plan.anew = Size > kGiB;
  plan.warm_up = false;
  // The child's pages are copied when they are written: up to a second heap on the rival's side.
  plan.memory_bytes = static_cast<double>(Size) * (plan.anew ? 2 : 3.2) + 1e9;
  plan.quick_pairs = 2;
  plan.full_pairs = plan.anew ? 3 : 9;
  report.parameter("threads", Writers::kThreads);
  Notes notes({"save_ours_ms", "save_rival_ms", "faults", "longest_stop_at_ms"});
  measure_sides(
      effort, report, plan,
      [&]() -> Peer::Batch {
        auto heap = std::make_shared<ArenaHeap>(Size, options, report);
        return [heap, &notes] {
          checkpoint::Statistics statistics;
          const Snapshot seen = save_arena(*heap, {}, &statistics);
          notes.add(our_time, seen.during_ns / 1e6);
          notes.add(at, seen.gap_at_ns / 1e6);
          notes.add(faults, static_cast<double>(statistics.faults));
          return seen.longest_gap_ns;
        };
      },
      [&]() -> Peer::Batch {
        auto heap = std::make_shared<PlainHeap>(Size);
        return [heap, &notes] {
          const Snapshot seen = save_by_fork(*heap, {});
          notes.add(rival_time, seen.during_ns / 1e6);
          return seen.longest_gap_ns;
        };
      });
  notes.report(report);
}

Question question(const char* id, std::size_t size, const char* how, double target,
                  void (*measure)(const Effort&, Report&)) {
  return {.id = id,
          .asks = "the longest stop of any thread in a checkpoint of " + size_text(size) + how,
          .ours = "longest stop, checkpoint of " + size_text(size) + how,
          .rival = "fork(), child copies all to /dev/null",
          .unit = "ns",
          .target = target,
          .measure = measure,
          .scheduling = Scheduling::fair_group,
          .bound = "the scheduler: a tick (4 ms) where the save and two threads share two CPUs"};
}

}  // namespace

void add_longest_gap(Questions& questions) {
  questions.push_back(question("checkpoint.longest_gap_1g", kGiB, "", 0.1, measure<kGiB, false>));
  questions.push_back(question("checkpoint.longest_gap_1g.handlers", kGiB,
                               ", faults in handler threads", 0.1, measure<kGiB, true>));
  questions.push_back(
      question("checkpoint.longest_gap_8g", 8 * kGiB, "", 0.03, measure<8 * kGiB, false>));
}

}  // namespace pagetrap::bench
