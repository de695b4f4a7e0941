// checkpoint.twin: should a program that takes checkpoints use virtual memory? Its twin copies each
// object at the first write after a cut, by instructions (twins/cow_table.hpp): no fault, but an
// indirection for each access and a comparison for each write, also when nothing is being saved.
//
// The row compares one checkpoint: the work that two threads lose to ours, and what the twin's
// copies cost for the same accesses. The table of break-even says how many accesses between two
// checkpoints the indirection may slow down before the faults are cheaper.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "checkpoint/questions.hpp"
#include "checkpoint/snapshots.hpp"
#include "harness/statistics.hpp"
#include "twins/cow_table.hpp"

namespace pagetrap::bench {

namespace {

struct Object {
  std::uint64_t words[32];
};
using Twin = twins::CowTable<Object>;
constexpr std::size_t kAccesses = 1 << 18;

/// Objects side by side, and the same ones behind a table, with room for copies.
class Objects {
 public:
  Objects(std::size_t count, std::size_t copies)
      : count_(count),
        objects_(count * sizeof(Object)),
        slots_(count * sizeof(Twin::Slot)),
        spare_(copies * sizeof(Object)),
        twin_(slots(), reinterpret_cast<Object*>(spare_.data()), copies) {
    fill(objects_.data(), objects_.size_bytes());
    fill(spare_.data(), spare_.size_bytes());
    for (std::size_t i = 0; i < count; ++i) slots()[i] = {objects() + i, nullptr, 0};
  }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] Object* objects() const noexcept {
    return reinterpret_cast<Object*>(objects_.data());
  }
  [[nodiscard]] Twin& twin() noexcept { return twin_; }

 private:
  [[nodiscard]] Twin::Slot* slots() const noexcept {
    return reinterpret_cast<Twin::Slot*>(slots_.data());
  }
  std::size_t count_;
  Mapping objects_;
  Mapping slots_;
  Mapping spare_;
  Twin twin_;
};

/// Random accesses, every second one a write: nanoseconds each.
template <class Read, class Write>
[[gnu::noinline]] double time_accesses(std::size_t count, std::uint64_t seed, Read&& read,
                                       Write&& write) {
  std::uint64_t state = seed;
  const double elapsed = time_ns([&] {
    for (std::size_t i = 0; i < kAccesses; i += 2) {
      // Where the next one is depends on what was read, as where programs follow references.
      state = state * 6364136223846793005U + read((state >> 33) % count).words[3];
      write((state >> 20) % count).words[5] = state;
      asm volatile("" : "+r"(state) : : "memory");
    }
  });
  return elapsed / static_cast<double>(kAccesses);
}

struct TwinCost {
  double median_ns = 0;
  double low_ns = 0;
  double high_ns = 0;
  double noise_ns = 0;
};

/// What the indirection and the comparison cost an access, nothing being saved.
TwinCost cost_outside(std::size_t count, int rounds) {
  Objects objects(count, 1);
  Twin& twin = objects.twin();
  Object* const plain = objects.objects();
  const auto direct = [&](std::uint64_t seed) {
    return time_accesses(
        count, seed, [&](std::size_t i) -> const Object& { return plain[i]; },
        [&](std::size_t i) -> Object& { return plain[i]; });
  };
  const auto indirect = [&](std::uint64_t seed) {
    return time_accesses(
        count, seed, [&](std::size_t i) -> const Object& { return twin.read(i); },
        [&](std::size_t i) -> Object& { return twin.write(i); });
  };
  std::vector<double> costs;
  std::vector<double> noise;
  for (int i = -1; i < rounds; ++i) {
    const auto seed = static_cast<std::uint64_t>(i + 2);
    const double first = direct(seed);
    const double through_table = indirect(seed);
    const double second = direct(seed);
    if (i < 0) continue;
    costs.push_back(through_table - (first + second) / 2);
    noise.push_back(second - first);
  }
  return {median(costs), percentile(costs, 0.1), percentile(costs, 0.9), percentile(noise, 0.9)};
}

/// What the first write to an object after a cut costs over a later one.
double cost_of_copy(std::size_t count, std::size_t writes) {
  Objects objects(count, writes);
  Twin& twin = objects.twin();
  const auto write_once = [&] {
    std::uint64_t state = 9;
    return time_ns([&] {
      for (std::size_t i = 0; i < writes; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        twin.write((state >> 33) % count).words[3] = state;
      }
    });
  };
  write_once();
  const double later = write_once();
  twin.cut();
  const double first = write_once();
  return (first - later) / static_cast<double>(writes);
}

void compare(Report& report, const char* instruction, const std::vector<double>& lost,
             const TwinCost& twin) {
  BreakEven row;
  row.application = "checkpoints of 1 GiB";
  row.fault_mechanism = "a checkpoint, less the twin's copies";
  row.fault_ns = median(lost);
  row.instruction = instruction;
  if (row.fault_ns <= 0) return;  // cheaper at any rate
  if (twin.median_ns > twin.noise_ns) {
    row.instruction_ns = twin.median_ns;
    row.accesses_per_fault = row.fault_ns / twin.median_ns;
    row.low = std::max(0.0, percentile(lost, 0.1)) / twin.high_ns;
    row.high = twin.low_ns > 0 ? percentile(lost, 0.9) / twin.low_ns : 0;
  }
  report.break_even(row);
}

void measure(const Effort& effort, Report& report) {
  require_cut(report, {});
  require_memory(report, static_cast<double>(kGiB) * 3);
  const std::size_t large = (effort.quick ? kGiB / 4 : kGiB) / sizeof(Object);
  const TwinCost cached = cost_outside(1 << 12, effort.quick ? 21 : 151);
  const TwinCost random = cost_outside(large, effort.quick ? 7 : 51);
  const double copy_ns = cost_of_copy(large, large / 8);

  ArenaHeap heap(kGiB, {}, report);
  SnapshotPlan watch;
  watch.before_ms = effort.quick ? 250 : 500;
  watch.settle_ms = effort.quick ? 500 : 1000;
  std::vector<double> net;
  for (int i = 0; i < (effort.quick ? 1 : 7); ++i) {
    const Snapshot seen = save_arena(heap, watch);
    const double ours = seen.lost_ns * Writers::kThreads;
    // The twin's threads go on at full speed while its saver reads. Half of the accesses are
    // writes, and nearly all of these to objects not written before.
    const double twins = seen.undisturbed / 2 * copy_ns;
    report.pair(ours, twins);
    net.push_back(ours - twins);
  }
  report.parameter("twin_copy_ns", copy_ns);
  report.parameter("twin_access_ns_cached", cached.median_ns);
  report.parameter("twin_access_ns_random", random.median_ns);
  report.parameter("object_bytes", sizeof(Object));
  compare(report, "indirection + epoch, 1 MiB", net, cached);
  compare(report, "indirection + epoch, whole heap", net, random);
}

}  // namespace

void add_cow_twin(Questions& questions) {
  questions.push_back({.id = "checkpoint.twin",
                       .asks = "work that one checkpoint of 1 GiB costs, by faults or instructions",
                       .ours = "work lost by two threads to a checkpoint",
                       .rival = "copying each object of 256 bytes at its first write",
                       .unit = "ns",
                       .measure = measure,
                       .scheduling = Scheduling::fair_group});
}

}  // namespace pagetrap::bench
