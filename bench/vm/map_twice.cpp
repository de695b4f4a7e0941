// vm.map_twice: a second view of memory, against a copy of it. A reader wants one byte of each
// page.
//
// vm.map_twice uses a view as a collector does: made once, kept as long as the region. What a view
// costs that is made, touched for the first time and unmapped again is vm.map_twice.new_view. The
// rival copies into a buffer whose pages are present already, the cheapest way to copy.
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

/// The region, and a buffer of the rival's.
class Sides {
 public:
  explicit Sides(Report& report) : report_(report), buffer_(kSizeBytes) {
    RegionOptions options = write_trap_options(Delivery::any);
    options.backing = Backing::memfd;
    auto region = Region::create(kSizeBytes, options);
    if (!region) report.skip(describe(region.error()));
    region_ = std::move(*region);
    populate(region_.data(), kSizeBytes);
    populate(buffer_.data(), kSizeBytes);
    expected_ = touch_all(region_.data());
    kept_ = region_.map_twice(Access::read).value();
    touch_all(kept_.data());
    report.parameter("bytes", kSizeBytes);
  }

  double touch_kept_view() {
    return time_reading([&] { return touch_all(kept_.data()); });
  }

  double touch_new_view() {
    return time_reading([&] {
      const View view = region_.map_twice(Access::read).value();
      return touch_all(view.data());
    });
  }

  double copy() {
    return time_reading([&] {
      for (std::size_t offset = 0; offset < kSizeBytes; offset += page_size()) {
        std::memcpy(buffer_.data() + offset, region_.data() + offset, page_size());
      }
      return touch_all(buffer_.data());
    });
  }

 private:
  template <class Read>
  double time_reading(Read&& read) {
    std::uint64_t sum = 0;
    const double elapsed = time_ns([&] { sum = read(); });
    report_.check(sum == expected_, "not what the region holds");
    return elapsed / static_cast<double>(kSizeBytes >> page_shift());
  }

  Report& report_;
  Mapping buffer_;
  Region region_;
  View kept_;
  std::uint64_t expected_ = 0;
};

void measure_kept_view(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  Sides sides(report);
  interleave(
      effort, report, [&] { return sides.touch_kept_view(); }, [&] { return sides.copy(); });
}

void measure_new_view(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  Sides sides(report);
  interleave(
      effort, report, [&] { return sides.touch_new_view(); }, [&] { return sides.copy(); });
}

}  // namespace

void add_map_twice(Questions& questions) {
  const char* const rival = "memcpy of each page into memory that is present";
  questions.push_back({.id = "vm.map_twice",
                       .asks = "touching pages through a second view against copying them",
                       .ours = "touch each page through a view that is kept",
                       .rival = rival,
                       .unit = "ns",
                       .target = 0.5,
                       .measure = measure_kept_view,
                       .bound = "a miss in the caches and the TLB for each page"});
  questions.push_back({.id = "vm.map_twice.new_view",
                       .asks = "the same, the view made, touched once and unmapped each time",
                       .ours = "make a view, touch each page, unmap",
                       .rival = rival,
                       .unit = "ns",
                       .measure = measure_new_view});
}

}  // namespace pagetrap::bench
