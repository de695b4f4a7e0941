// compress.*_50, *_25 and pager.fault_cpu: an array larger than its memory, in compressed memory
// and in a control group with swap to zram, both in the same number of bytes, compressed ones
// included.
#include <sys/resource.h>
#include <time.h>

#include "compress/questions.hpp"
#include "compress/sides.hpp"
#include "harness/cpus.hpp"
#include "harness/mapping.hpp"
#include "harness/pairs.hpp"

namespace pagetrap::bench {

namespace {

struct Plan {
  Order order = Order::uniform;
  unsigned writes_percent = 0;
  double share = 0.5;
  std::size_t operations = 10'000;  // of a batch
};

std::size_t array_bytes(const Effort& effort) { return (effort.quick ? 96_MiB : 256_MiB); }

/// How a side measures a batch: given its walk, and what counts its faults.
using Measure = double (*)(Walk& walk, std::size_t operations, pager::Region* ours);

double time_of(Walk& walk, std::size_t operations, pager::Region*) { return walk.run(operations); }
double tail_of(Walk& walk, std::size_t operations, pager::Region*) { return walk.p999(operations); }

double process_cpu_ns() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

/// Pages that came from swap, or from our store.
double hard_faults(pager::Region* ours) {
  if (ours != nullptr) return static_cast<double>(ours->statistics().filled);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_majflt);
}

double cpu_of(Walk& walk, std::size_t operations, pager::Region* ours) {
  const double cpu = process_cpu_ns();
  const double faults = hard_faults(ours);
  static_cast<void>(walk.run(operations));
  return (process_cpu_ns() - cpu) / (hard_faults(ours) - faults);
}

void measure(const Effort& effort, Report& report, const Plan& plan, Measure measure_batch) {
  pin_to_cpu(0);
  const std::size_t size = array_bytes(effort);
  report.parameter("array_bytes", static_cast<double>(size));
  const auto draws = plan.order == Order::zipf ? draw_zipf(size / page_size(), 1 << 18)
                                               : std::vector<std::uint32_t>{};
  ZramSide rival(report, size, plan.share, [&]() -> Peer::Batch {
    const auto memory = std::make_shared<Mapping>(size);
    const auto walk =
        std::make_shared<Walk>(memory->data(), size, plan.order, plan.writes_percent, draws);
    walk->build();
    return [memory, walk, &plan, measure_batch] {
      return measure_batch(*walk, plan.operations, nullptr);
    };
  });
  double ignored = 0;
  for (int i = 0; i < 3; ++i)
    if (!rival.measure(ignored)) report.skip(kKilled);
  const std::size_t total = rival.total_bytes();
  report.parameter("rival_total_share", static_cast<double>(total) / static_cast<double>(size));
  CompressedSide ours(report, size, total - bookkeeping_bytes(size, total), 0);
  Walk walk(ours.data(), size, plan.order, plan.writes_percent, draws);
  walk.build();
  ours.warm_up([&] { static_cast<void>(walk.run(plan.operations)); });
  interleave_with_zram(
      effort, report, [&] { return measure_batch(walk, plan.operations, &ours.region()); }, rival);
  ours.describe(report, size);
  report.parameter("rival_total_share_after",
                   static_cast<double>(rival.total_bytes()) / static_cast<double>(size));
}

template <Order order, unsigned writes, int percent>
void measure_time(const Effort& effort, Report& report) {
  measure(effort, report, {order, writes, percent / 100.0, order == Order::zipf ? 40'000U : 8'000U},
          time_of);
}

void measure_p999(const Effort& effort, Report& report) {
  measure(effort, report, {Order::uniform, 0, 0.5, 20'000}, tail_of);
}

void measure_cpu(const Effort& effort, Report& report) {
  measure(effort, report, {Order::uniform, 0, 0.5, 10'000}, cpu_of);
}

}  // namespace

void add_zram(Questions& questions) {
  const char* const ours = "compress::CompressedSource under the pager";
  const char* const rival = "zram (LZ4) swap in a memory control group, as many bytes in all";
  const char* const fault =
      "a signal, UFFDIO_COPY, LZ4 and a part of a TLB shootdown for each fault, 8 to 12 us, where "
      "the whole of the rival's takes 14 here (22 to 38 where the target was set)";
  const auto add = [&](const char* id, const char* asks, double target,
                       void (*how)(const Effort&, Report&), const char* bound) {
    questions.push_back({.id = id,
                         .asks = asks,
                         .ours = ours,
                         .rival = rival,
                         .unit = "ns",
                         .target = target,
                         .measure = how,
                         .bound = bound});
  };
  add("compress.uniform_w10_50", "a random record, one in ten written, half of it in memory", 0.4,
      measure_time<Order::uniform, 10, 50>, fault);
  add("compress.uniform_w10_25", "the same, a quarter in memory", 0.4,
      measure_time<Order::uniform, 10, 25>, fault);
  add("compress.zipf_50", "a record by Zipf's law, half of it in memory", 0.5,
      measure_time<Order::zipf, 0, 50>, fault);
  add("compress.zipf_25", "the same, a quarter in memory", 0.5, measure_time<Order::zipf, 0, 25>,
      fault);
  add("compress.seq_50", "a page of the array, read from start to end", 0.25,
      measure_time<Order::sequential, 0, 50>,
      "64 copies and a TLB shootdown beside the reader that reads ahead");
  add("compress.p999_uniform_50", "the time that one random read in a thousand exceeds", 0.1,
      measure_p999, "eight pages that one fault compresses, 10 us each, and a TLB shootdown");
  add("pager.fault_cpu", "the CPU time of a hard fault, helper threads included", 0.35, measure_cpu,
      "LZ4 compresses a page in 10 us on either side; ours takes a snapshot and two hashes beside");
}

}  // namespace pagetrap::bench
