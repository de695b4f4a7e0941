// compress.*.plain: what compressed memory costs against memory that is all there. Needs no root.
#include "compress/questions.hpp"
#include "compress/sides.hpp"
#include "harness/cpus.hpp"
#include "harness/mapping.hpp"
#include "harness/pairs.hpp"

namespace pagetrap::bench {

namespace {

template <Order order, unsigned writes, int percent>
void measure(const Effort& effort, Report& report) {
  const std::size_t size = effort.quick ? 64_MiB : 128_MiB;
  const std::size_t operations = order == Order::zipf ? 20'000 : 4'000;
  report.parameter("array_bytes", static_cast<double>(size));
  const auto draws =
      order == Order::zipf ? draw_zipf(size / page_size(), 1 << 18) : std::vector<std::uint32_t>{};
  CompressedSide ours(report, size, 3 * size, size * percent / 100);
  Walk walk(ours.data(), size, order, writes, draws);
  walk.build();
  ours.warm_up([&] { static_cast<void>(walk.run(operations)); });
  const Mapping plain(size);
  Walk rival(plain.data(), size, order, writes, draws);
  rival.build();
  interleave(
      with_fewer_pairs(effort, 5), report, [&] { return walk.run(operations); },
      [&] { return rival.run(operations); });
  ours.describe(report, size);
}

}  // namespace

void add_plain(Questions& questions) {
  const auto add = [&](const char* id, const char* asks, void (*how)(const Effort&, Report&)) {
    questions.push_back({.id = id,
                         .asks = asks,
                         .ours = "compress::CompressedSource under the pager",
                         .rival = "plain memory, all of it",
                         .unit = "ns",
                         .measure = how});
  };
  add("compress.uniform_w10_50.plain", "a random record, half of the pages in memory",
      measure<Order::uniform, 10, 50>);
  add("compress.uniform_w10_25.plain", "the same, a quarter", measure<Order::uniform, 10, 25>);
  add("compress.zipf_50.plain", "a record by Zipf's law, half of the pages in memory",
      measure<Order::zipf, 0, 50>);
  add("compress.zipf_25.plain", "the same, a quarter", measure<Order::zipf, 0, 25>);
  add("compress.seq_50.plain", "a page of the array in order, half of them in memory",
      measure<Order::sequential, 0, 50>);
}

}  // namespace pagetrap::bench
