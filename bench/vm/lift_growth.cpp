// vm.lift_growth: lift takes the same time at any size. 8 GiB against 1 GiB, every page present.
#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "harness/cpus.hpp"
#include "harness/machine.hpp"
#include "harness/pairs.hpp"
#include "vm/questions.hpp"
#include "vm/trap_sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kLarge = 8_GiB;
constexpr std::size_t kSmall = 1_GiB;

/// A liftable region with contents of its own in every page.
class FilledRegion {
 public:
  FilledRegion(std::size_t size_bytes, Report& report) : report_(report) {
    RegionOptions options = write_trap_options(Delivery::any);
    options.faults = FaultKind::missing;
    options.liftable = true;
    auto region = Region::create(size_bytes, options);
    if (!region) report.skip(describe(region.error()));
    region_ = std::move(*region);
    fill();
  }

  double time_lift() {
    double elapsed = 0;
    {
      const double begin = now_ns();
      auto lift = region_.lift();
      elapsed = now_ns() - begin;
      if (!lift) report_.fail(describe(lift.error()));
      report_.check(region_.page_state(region_.data()) == PageState::missing,
                    "a lifted page is still in its place");
      check_samples([&](std::size_t offset) { return lift->at(region_.data() + offset); });
      lift->finish().value();
    }
    check_samples([&](std::size_t offset) { return region_.data() + offset; });
    return elapsed;
  }

 private:
  static constexpr std::size_t kChunk = 4_MiB;

  void fill() {
    Mapping buffer(kChunk);
    populate(buffer.data(), kChunk);  // page i of a chunk begins with the byte i
    for (std::size_t offset = 0; offset < region_.size_bytes(); offset += kChunk) {
      const PageRange chunk{region_.data() + offset, pages_for(kChunk)};
      region_.supply(chunk, buffer.data(), Supply::copy).value();
    }
  }

  template <class Where>
  void check_samples(Where&& where) {
    for (std::size_t offset = 0; offset < region_.size_bytes(); offset += 61 * page_size()) {
      const auto expected = static_cast<unsigned char>(offset % kChunk >> page_shift());
      report_.check(read_from(where(offset)) == expected, "lift lost a page's contents");
    }
  }

  Report& report_;
  Region region_;
};

void measure(const Effort& effort, Report& report) {
  const double needed = static_cast<double>(kLarge + kSmall + 1_GiB);
  if (memory_available() < needed) report.skip("needs 10 GiB of available memory");
  pin_to_cpu(0);
  FilledRegion large(kLarge, report);
  FilledRegion small(kSmall, report);
  report.parameter("large_bytes", kLarge);
  report.parameter("small_bytes", kSmall);
  Effort few = with_fewer_pairs(effort, 5);
  few.max_pairs = std::min(few.max_pairs, 25);  // putting 8 GiB back takes a while
  interleave(
      few, report, [&] { return large.time_lift(); }, [&] { return small.time_lift(); });
}

}  // namespace

void add_lift_growth(Questions& questions) {
  questions.push_back(
      {.id = "vm.lift_growth",
       .asks = "lift of 8 GiB against lift of 1 GiB",
       .ours = "lift of 8 GiB, all pages present",
       .rival = "lift of 1 GiB",
       .unit = "ns",
       .target = 2,
       .measure = measure,
       .bound = "one page-table entry for each GiB, and the page states, a byte a page"});
}

}  // namespace pagetrap::bench
