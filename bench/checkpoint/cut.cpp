// checkpoint.cut_*: how long is a heap stopped so that its image is of one instant? Two threads
// read and write it meanwhile, the same on both sides.
//
// Ours is the time between the two hooks, with nothing but the cut between them: the arena's locks,
// and protecting what is not protected ahead, or taking the page tables away. A thread that touches
// the heap then waits until it is over. The rival is the time that fork() takes, in which threads
// that fault wait. The parameters writer_stall_* say what the threads saw: the longest time without
// progress that overlaps the cut. On our side that has the first fault in it, and on both whatever
// the scheduler adds.
#include "checkpoint/heaps.hpp"
#include "checkpoint/questions.hpp"
#include "checkpoint/writers.hpp"
#include "harness/statistics.hpp"
#include "rivals/fork_save.hpp"

namespace pagetrap::bench {

namespace {

constexpr long kRunBefore = 20;  // ms

enum Note : std::size_t { our_stall, rival_stall, our_huge, rival_huge };

double huge_page_bytes() { return sum_of_lines("/proc/self/smaps_rollup", {"AnonHugePages:"}); }

MakeSide our_cuts(std::size_t size, const checkpoint::CheckpointerOptions& options, int cuts,
                  Report& report, Notes& notes) {
  return [=, &report, &notes]() -> Peer::Batch {
    auto heap = std::make_shared<ArenaHeap>(size, options, report);
    return [=, &notes] {
      std::vector<double> costs;
      for (int i = 0; i < cuts; ++i) {
        Writers writers(heap->data(), heap->size_bytes());
        sleep_ms(kRunBefore);
        heap->cut();
        sleep_ms(1);
        writers.stop();
        costs.push_back(heap->cut_ns());
        const double stall =
            writers.longest_gap(heap->cut_begin_ns(), heap->cut_end_ns()).length_ns() / 1e3;
        notes.add(our_stall, stall);
        notes.add(our_huge, huge_page_bytes());
      }
      return median(costs);
    };
  };
}

MakeSide fork_cuts(std::size_t size, bool huge_pages, int cuts, Notes& notes) {
  return [=, &notes]() -> Peer::Batch {
    auto heap = std::make_shared<PlainHeap>(size, huge_pages);
    return [=, &notes] {
      std::vector<double> costs;
      for (int i = 0; i < cuts; ++i) {
        Writers writers(heap->data(), heap->size_bytes());
        sleep_ms(kRunBefore);
        rivals::ForkSave snapshot(heap->data(), heap->size_bytes(), rivals::ForkedChild::waits);
        sleep_ms(1);
        writers.stop();
        costs.push_back(snapshot.fork_ns());
        notes.add(rival_stall,
                  writers.longest_gap(snapshot.begin_ns(), snapshot.end_ns()).length_ns() / 1e3);
        notes.add(rival_huge, huge_page_bytes());
      }
      return median(costs);
    };
  };
}

template <std::size_t Size, bool HugePages, bool Handlers>
void measure_cut(const Effort& effort, Report& report) {
  if (Size > kGiB || Handlers) only_in_full_run(effort, report);
  checkpoint::CheckpointerOptions options = full_images(Handlers);
  options.huge_pages = HugePages;
  require_cut(report, options);
  SidesPlan plan;
  plan.heap_bytes = Size;
  // Writes after a fork() split huge pages: the next one would find a heap of small ones.
  plan.anew = Size > kGiB || HugePages;
  plan.warm_up = !plan.anew;
  plan.memory_bytes = static_cast<double>(Size) * (plan.anew ? 1.3 : 2.5) + 1e9;
  plan.quick_pairs = Size < kGiB ? 9 : HugePages ? 3 : 5;
  plan.full_pairs = Size > kGiB ? 3 : HugePages ? 9 : 25;
  const int cuts = Size > kGiB ? 5 : 1;        // of one process
  const int our_count = HugePages ? 5 : cuts;  // ours stay whole
  report.parameter("threads", Writers::kThreads);
  Notes notes({"writer_stall_ours_us", "writer_stall_rival_us", "huge_page_bytes_ours",
               "huge_page_bytes_rival"});
  measure_sides(effort, report, plan, our_cuts(Size, options, our_count, report, notes),
                fork_cuts(Size, HugePages, cuts, notes));
  notes.report(report);
}

void measure_growth(const Effort& effort, Report& report) {
  only_in_full_run(effort, report);
  constexpr std::size_t kLarge = 8 * kGiB;
  constexpr std::size_t kSmall = 64 * kMiB;
  require_cut(report, full_images(false));
  SidesPlan plan;
  plan.heap_bytes = kLarge;
  plan.memory_bytes = static_cast<double>(kLarge) * 1.3 + 1e9;
  plan.full_pairs = 15;
  Notes notes({"writer_stall_large_us", "", "huge_page_bytes_large", ""});
  Notes small_notes({"writer_stall_small_us", "", "huge_page_bytes_small", ""});
  measure_sides(effort, report, plan, our_cuts(kLarge, full_images(false), 1, report, notes),
                our_cuts(kSmall, full_images(false), 1, report, small_notes));
  notes.report(report);
  small_notes.report(report);
}

constexpr const char* kLiftBound =
    "the turn on a busy CPU of the thread that reads the remap event: mremap waits for it";
constexpr const char* kHugeBound =
    "what threads opened again since it was protected ahead, an interrupt of all CPUs a call";

Question question(const char* id, std::size_t size, const char* how, double target,
                  void (*measure)(const Effort&, Report&), const char* bound = kLiftBound) {
  return {.id = id,
          .asks = "the stop for an image of " + size_text(size) + " with 2 running threads" + how,
          .ours = "cut of " + size_text(size) + how,
          .rival = "fork()",
          .unit = "ns",
          .target = target,
          .measure = measure,
          .scheduling = Scheduling::fair_group,
          .bound = bound};
}

}  // namespace

void add_cut(Questions& questions) {
  questions.push_back(
      question("checkpoint.cut_64m", 64 * kMiB, "", 0.1, measure_cut<64 * kMiB, false, false>));
  questions.push_back(
      question("checkpoint.cut_1g", kGiB, "", 0.01, measure_cut<kGiB, false, false>));
  questions.push_back(question("checkpoint.cut_1g.handlers", kGiB, ", faults in handler threads",
                               0.01, measure_cut<kGiB, false, true>));
  questions.push_back(
      question("checkpoint.cut_8g", 8 * kGiB, "", 0.002, measure_cut<8 * kGiB, false, false>));
  questions.push_back(question("checkpoint.cut_1g.thp", kGiB, ", huge pages", 0.1,
                               measure_cut<kGiB, true, false>, kHugeBound));
  questions.push_back({.id = "checkpoint.cut_growth",
                       .asks = "the stop for 8 GiB against the stop for 64 MiB",
                       .ours = "cut of 8 GiB",
                       .rival = "cut of 64 MiB",
                       .unit = "ns",
                       .target = 2,
                       .measure = measure_growth,
                       .scheduling = Scheduling::fair_group});
}

}  // namespace pagetrap::bench
