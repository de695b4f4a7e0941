// guard.live_objects: how many kernel mappings ten million live objects take, each with a page of
// addresses of its own. Electric Fence takes two for each, and ends at half of vm.max_map_count.
#include <cstring>
#include <vector>

#include <pagetrap/guard/heap.hpp>
#include <pagetrap/vm/features.hpp>

#include "guard/questions.hpp"
#include "harness/mapping.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kSize = 32;

void measure(const Effort& effort, Report& report) {
  const std::size_t objects = effort.quick ? 1'000'000 : 10'000'000;
  const double scale = 10'000'000.0 / static_cast<double>(objects);
  guard::HeapOptions options;
  options.strength = guard::Strength::alias;
  auto heap = guard::Heap::create(options);
  if (!heap) report.skip(describe(heap.error()));
  const std::size_t before = count_mappings();
  std::vector<char*> all(objects);
  for (std::size_t i = 0; i < objects; ++i) {
    all[i] = static_cast<char*>(heap->allocate(kSize));
    report.check(all[i] != nullptr, "no memory");
    std::memset(all[i], static_cast<int>(i), kSize);
  }
  for (std::size_t i = 0; i < objects; ++i)
    report.check(all[i][kSize - 1] == static_cast<char>(i), "an object has been written over");
  report.check(heap->statistics().live_objects == objects, "some are not guarded");
  report.parameter("objects", static_cast<double>(objects));
  report.parameter("object_bytes", static_cast<double>(kSize));
  // A count, which does not vary.
  report.pair(static_cast<double>(count_mappings() - before) * scale,
              static_cast<double>(max_map_count()));
}

}  // namespace

void add_live_objects(Questions& questions) {
  questions.push_back({.id = "guard.live_objects",
                       .asks = "kernel mappings for 10 million live objects",
                       .ours = "alias",
                       .rival = "vm.max_map_count",
                       .unit = "mappings",
                       .target = 0.6,
                       .measure = measure});
}

}  // namespace pagetrap::bench
