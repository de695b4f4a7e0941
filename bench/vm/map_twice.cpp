// vm.map_twice: a second view of memory, against a copy of it. A reader wants one word of each
// page.
//
// Ours maps a new view for every batch, touches it for the first time and unmaps it, the dearest
// way to use one. The rival copies into a buffer whose pages are present already, the cheapest.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "vm/questions.hpp"
#include "vm/trap_sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kSizeBytes = 64_MiB;

/// Reads a byte of each page; the sum shows that both sides saw the same.
std::uint64_t touch_all(const std::byte* base) {
  std::uint64_t sum = 0;
  for (std::size_t offset = 0; offset < kSizeBytes; offset += page_size()) {
    sum += read_from(base + offset);
  }
  return sum;
}

void measure(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  RegionOptions options = write_trap_options(Delivery::any);
  options.backing = Backing::memfd;
  auto region = Region::create(kSizeBytes, options);
  if (!region) report.skip(describe(region.error()));
  populate(region->data(), kSizeBytes);
  const std::uint64_t expected = touch_all(region->data());
  Mapping buffer(kSizeBytes);
  populate(buffer.data(), kSizeBytes);
  const auto pages = static_cast<double>(kSizeBytes >> page_shift());
  report.parameter("bytes", kSizeBytes);

  const View steady = region->map_twice(Access::read).value();
  touch_all(steady.data());
  report.parameter("steady_view_ns", time_ns([&] { touch_all(steady.data()); }) / pages);

  interleave(
      effort, report,
      [&] {
        std::uint64_t sum = 0;
        const double elapsed = time_ns([&] {
          const View view = region->map_twice(Access::read).value();
          sum = touch_all(view.data());
        });
        report.check(sum == expected, "the view shows something else");
        return elapsed / pages;
      },
      [&] {
        std::uint64_t sum = 0;
        const double elapsed = time_ns([&] {
          for (std::size_t offset = 0; offset < kSizeBytes; offset += page_size()) {
            std::memcpy(buffer.data() + offset, region->data() + offset, page_size());
          }
          sum = touch_all(buffer.data());
        });
        report.check(sum == expected, "the copy holds something else");
        return elapsed / pages;
      });
}

}  // namespace

void add_map_twice(Questions& questions) {
  questions.push_back({.id = "vm.map_twice",
                       .asks = "touching pages through a second view against copying them",
                       .ours = "new view, first touch of each page, unmap",
                       .rival = "memcpy of each page into memory that is present",
                       .unit = "ns",
                       .target = 0.5,
                       .measure = measure,
                       .bound = "first touches; a view that is kept costs the memory access only"});
}

}  // namespace pagetrap::bench
