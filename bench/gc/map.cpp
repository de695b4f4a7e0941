// gc.map512.*: a map of 512 MiB under random updates.
#include "gc/map.hpp"

#include <memory>
#include <string>
#include <utility>

#include "gc/questions.hpp"
#include "gc/sides.hpp"
#include "harness/pairs.hpp"

namespace pagetrap::bench {
namespace {

std::size_t map_bytes(const Effort& effort) { return effort.quick ? 64_MiB : 512_MiB; }
std::size_t operations(const Effort& effort) { return effort.quick ? 300'000 : 2'000'000; }

enum class What { mean, longest };

/// A map that lives as long as the peer.
template <class Allocator>
Peer::Batch operations_on(std::shared_ptr<void> keeps, std::shared_ptr<Allocator> allocator,
                          const Effort& effort, Report& report, What what) {
  auto map = std::make_shared<Map<Allocator>>(*allocator, map_bytes(effort));
  return [keeps = std::move(keeps), allocator, map, &report, what, count = operations(effort)] {
    const auto times = map->run(count);
    report.check(times.mean >= 0, "something in the map has been lost");
    return what == What::mean ? times.mean : times.longest / 1000;
  };
}

struct OurHeap {
  gc::Heap heap{heap_options()};
  gc::Mutator here{heap};
};

Peer::Batch make_side(Maker maker, const Effort& effort, Report& report, What what) {
  if (maker == Maker::ours) {
    auto heap = std::make_shared<OurHeap>();
    auto allocator =
        std::make_shared<CollectedAllocator>(CollectedAllocator{heap->heap, &heap->here});
    return operations_on(heap, allocator, effort, report, what);
  }
  if (maker == Maker::bdwgc)
    return operations_on(nullptr, std::make_shared<BoehmAllocator>(open_bdwgc(report)), effort,
                         report, what);
  return operations_on(nullptr, std::make_shared<ManualAllocator>(), effort, report, what);
}

void measure(const Effort& effort, Report& report, Maker rival, What what) {
  report.parameter("live_bytes", static_cast<double>(map_bytes(effort)));
  report.parameter("operations", static_cast<double>(operations(effort)));
  Peer ours(report, [&] { return make_side(Maker::ours, effort, report, what); });
  Peer theirs(report, [&] { return make_side(rival, effort, report, what); });
  interleave(
      with_fewer_pairs(effort, 3), report, [&] { return ours.measure(); },
      [&] { return theirs.measure(); });
}

void measure_time(const Effort& effort, Report& report) {
  measure(effort, report, Maker::malloc, What::mean);
}
void measure_pause(const Effort& effort, Report& report) {
  measure(effort, report, Maker::bdwgc, What::longest);
}

}  // namespace

void add_collected_map(Questions& questions) {
  questions.push_back({.id = "gc.map512.time",
                       .asks = "an operation on a map of 512 MiB, uniformly random",
                       .ours = name(Maker::ours),
                       .rival = name(Maker::malloc),
                       .unit = "ns",
                       .target = 1.5,
                       .measure = measure_time,
                       .scheduling = Scheduling::fair_group});
  questions.push_back({.id = "gc.map512.max_pause",
                       .asks = "the longest of them",
                       .ours = name(Maker::ours),
                       .rival = name(Maker::bdwgc),
                       .unit = "us",
                       .target = 0.005,
                       .measure = measure_pause,
                       .scheduling = Scheduling::fair_group});
}

}  // namespace pagetrap::bench
