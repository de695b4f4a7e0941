// gc.barrier.*: the same collector over pages and over instructions, and where one overtakes the
// other.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gc/map.hpp"
#include "gc/old_writes.hpp"
#include "gc/programs.hpp"
#include "gc/questions.hpp"
#include "gc/sides.hpp"
#include "harness/clock.hpp"
#include "harness/pairs.hpp"
#include "harness/statistics.hpp"

namespace pagetrap::bench {
namespace {

template <template <class> class Reference, gc::Barriers kBarriers>
struct Twin {
  template <class T>
  using Ref = Reference<T>;
  using Allocator = CollectedAllocatorOf<Reference>;
  static gc::Options options() {
    gc::Options options = heap_options();
    options.barriers = kBarriers;
    return options;
  }
};
using Ours = Twin<gc::ref, gc::Barriers::pages>;
using Checked = Twin<gc::checked_ref, gc::Barriers::checked_loads>;
using Carded = Twin<gc::carded_ref, gc::Barriers::carded_stores>;
using Instructed = Twin<gc::instructed_ref, gc::Barriers::both>;

/// A heap and the thread that uses it, as long as the peer lives.
struct HeapHere {
  explicit HeapHere(const gc::Options& options) : heap(options), here(heap) {}
  gc::Heap heap;
  gc::Mutator here;
};

// --- whole programs

template <class Side>
Peer::Batch gcbench_in(const Effort& effort, Report& report) {
  const GcBenchSize size = effort.quick ? GcBenchSize{17, 15, 500'000} : GcBenchSize{};
  return [&report, size] {
    const double begin = now_ns();
    {
      HeapHere side(Side::options());
      typename Side::Allocator allocator{side.heap, &side.here};
      report.check(gcbench(allocator, size) == (std::size_t{2} << size.depth),
                   "something in the heap has been lost");
    }
    return (now_ns() - begin) / 1e6;
  };
}

template <class Side>
Peer::Batch map_in(const Effort& effort, Report& report) {
  using Allocator = typename Side::Allocator;
  auto side = std::make_shared<HeapHere>(Side::options());
  auto allocator = std::make_shared<Allocator>(Allocator{side->heap, &side->here});
  auto map = std::make_shared<Map<Allocator>>(*allocator, effort.quick ? 64_MiB : 512_MiB);
  const std::size_t operations = effort.quick ? 300'000 : 2'000'000;
  return [side, allocator, map, &report, operations] {
    const auto times = map->run(operations);
    report.check(times.mean >= 0, "something in the map has been lost");
    return times.mean;
  };
}

template <class Rival>
void measure_gcbench(const Effort& effort, Report& report) {
  Peer ours(report, [&] { return gcbench_in<Ours>(effort, report); });
  Peer rival(report, [&] { return gcbench_in<Rival>(effort, report); });
  interleave(
      with_fewer_pairs(effort, 3), report, [&] { return ours.measure(); },
      [&] { return rival.measure(); });
}

template <class Rival>
void measure_map(const Effort& effort, Report& report) {
  Peer ours(report, [&] { return map_in<Ours>(effort, report); });
  Peer rival(report, [&] { return map_in<Rival>(effort, report); });
  interleave(
      with_fewer_pairs(effort, 3), report, [&] { return ours.measure(); },
      [&] { return rival.measure(); });
}

// --- the crossover

constexpr std::array<double, 8> kPercents = {0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30};

constexpr std::size_t old_bytes(const Effort& effort) { return effort.quick ? 64_MiB : 256_MiB; }

/// Minor cycles alone: what is replaced in old objects is not waited for.
template <class Side>
gc::Options options_for_writes() {
  gc::Options options = Side::options();
  options.growth = 1e9;
  return options;
}

template <class Side>
struct WritingHeap {
  explicit WritingHeap(std::size_t bytes)
      : side(options_for_writes<Side>()), writes(side.heap, 32_MiB, bytes) {}
  HeapHere side;
  OldWrites<Side::template Ref> writes;
};

/// What a nursery takes, in milliseconds, for each of the shares in turn.
template <class Side>
Peer::Batch writes_in(const Effort& effort, Report& report, std::span<const double> percents) {
  auto heap = std::make_shared<WritingHeap<Side>>(old_bytes(effort));
  return [heap, &report, percents, next = std::size_t{0}, count = effort.quick ? 3 : 6]() mutable {
    const double share = percents[next++ % percents.size()] / 100;
    // The first flips are about what the share before this one wrote.
    report.check(heap->writes.run(2, share) >= 0, "something has been lost");
    const double elapsed = heap->writes.run(static_cast<std::size_t>(count), share);
    report.check(elapsed >= 0, "something that was stored in an old object has been lost");
    return elapsed / 1e6;
  };
}

template <class Rival, std::size_t kWhich>
void measure_share(const Effort& effort, Report& report) {
  report.parameter("old_bytes", static_cast<double>(old_bytes(effort)));
  report.parameter("percent_written", kPercents[kWhich]);
  const std::span<const double> percent(&kPercents[kWhich], 1);
  Peer ours(report, [&] { return writes_in<Ours>(effort, report, percent); });
  Peer rival(report, [&] { return writes_in<Rival>(effort, report, percent); });
  interleave(
      with_fewer_pairs(effort, 3), report, [&] { return ours.measure(); },
      [&] { return rival.measure(); });
}

using Ratios = std::array<double, kPercents.size()>;

/// From which percentage on instructions win, between the measured ones by logarithms; 0: always,
/// -1: never.
double crossing(const Ratios& ratios) {
  std::size_t first = ratios.size();
  while (first > 0 && ratios[first - 1] > 1) --first;
  if (first == ratios.size()) return -1;
  if (first == 0) return 0;
  const double below = std::log(ratios[first - 1]);
  const double part = -below / (std::log(ratios[first]) - below);
  return kPercents[first - 1] * std::pow(kPercents[first] / kPercents[first - 1], part);
}

std::string say(double percent) {
  if (percent < 0) return "never faster";
  if (percent == 0) return "always faster";
  std::array<char, 64> words{};
  std::snprintf(words.data(), words.size(), "faster from %.2g %% on", percent);
  return words.data();
}

// All shares in turn; the row is of the one that is nearest to where the ratio crosses 1.
template <class Rival>
void measure_crossing(const Effort& effort, Report& report) {
  Peer ours(report, [&] { return writes_in<Ours>(effort, report, kPercents); });
  Peer rival(report, [&] { return writes_in<Rival>(effort, report, kPercents); });
  const int rounds = effort.quick ? 4 : 12;
  std::array<std::vector<Pair>, kPercents.size()> pairs;
  for (int round = 0; round <= rounds; ++round) {
    for (std::vector<Pair>& of_share : pairs) {
      Pair pair;
      if (round % 2 == 0) pair.ours = ours.measure();
      pair.rival = rival.measure();
      if (round % 2 != 0) pair.ours = ours.measure();
      if (round > 0) of_share.push_back(pair);
    }
  }
  Ratios ratios{};
  for (std::size_t i = 0; i < ratios.size(); ++i) {
    ratios[i] = summarize(pairs[i]).ratio;
    std::array<char, 64> name{};
    std::snprintf(name.data(), name.size(), "ratio_at_%g_percent", kPercents[i]);
    report.parameter(name.data(), ratios[i]);
  }
  const double percent = crossing(ratios);
  report.parameter("crossing_percent", percent);
  report.rival_is(std::string("instructions, ") + say(percent));
  const auto distance = [&](double one) { return std::fabs(std::log(one / percent)); };
  std::size_t nearest = percent < 0 ? kPercents.size() - 1 : 0;
  for (std::size_t i = 0; percent > 0 && i < kPercents.size(); ++i)
    if (distance(kPercents[i]) < distance(kPercents[nearest])) nearest = i;
  report.parameter("row_percent", kPercents[nearest]);
  for (const Pair& pair : pairs[nearest]) report.pair(pair.ours, pair.rival);
}

void add(Questions& questions, std::string id, std::string asks, std::string rival,
         std::string unit, void (*how)(const Effort&, Report&)) {
  questions.push_back({.id = "gc.barrier." + std::move(id),
                       .asks = std::move(asks),
                       .ours = name(Maker::ours),
                       .rival = std::move(rival),
                       .unit = std::move(unit),
                       .measure = how,
                       // The collector's thread must have its turn.
                       .scheduling = Scheduling::fair_group});
}

template <class Rival, std::size_t... kWhich>
void add_shares(Questions& questions, const std::string& id, const std::string& rival,
                std::index_sequence<kWhich...>) {
  const auto add_one = [&](double percent, void (*how)(const Effort&, Report&)) {
    std::array<char, 32> number{};
    std::snprintf(number.data(), number.size(), "%g", percent);
    add(questions, "crossover." + id + "." + number.data(),
        std::string("a nursery's worth of work, ") + number.data() + " % of old pages written",
        rival, "ms", how);
  };
  (add_one(kPercents[kWhich], measure_share<Rival, kWhich>), ...);
}

template <class Rival>
void add_rival(Questions& questions, const std::string& id, const std::string& rival) {
  add(questions, id + ".gcbench", "GCBench, the whole program", rival, "ms",
      measure_gcbench<Rival>);
  add(questions, id + ".map", "an operation on a map, uniformly random", rival, "ns",
      measure_map<Rival>);
}

template <class Rival>
void add_crossover(Questions& questions, const std::string& id, const std::string& rival) {
  add_shares<Rival>(questions, id, rival, std::make_index_sequence<kPercents.size()>{});
  add(questions, "crossing." + id, "from which share of old pages on instructions win", rival, "ms",
      measure_crossing<Rival>);
}

}  // namespace

void add_barriers(Questions& questions) {
  const std::string read = "the same, checked loads (Baker)";
  const std::string write = "the same, card-marking stores";
  const std::string both = "the same, checked loads and card-marking stores";
  add_rival<Checked>(questions, "read", read);
  add_rival<Carded>(questions, "write", write);
  add_rival<Instructed>(questions, "both", both);
  add_crossover<Carded>(questions, "write", write);
  add_crossover<Instructed>(questions, "both", both);
}

}  // namespace pagetrap::bench
