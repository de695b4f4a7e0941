// One form of the limit check, with a nursery of its own.
#pragma once

#include <cstddef>
#include <string>

#include "guard/bump_loops.hpp"
#include "harness/clock.hpp"
#include "harness/mapping.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

template <class Limit>
class BumpSide {
 public:
  BumpSide(std::size_t nursery_bytes, Report& report) : report_(report) {
    guard::NurseryOptions options;
    options.nursery_bytes = nursery_bytes;
    options.nurseries = 1;
    options.refill = same_nursery;
    auto made = guard::NurseryPool::create(options);
    if (!made) report.skip(describe(made.error()));
    pool_ = std::move(*made);
    std::byte* const nursery = pool_.take();
    populate(nursery, nursery_bytes);
    pool_.give_back(nursery);
    allocator_ = Bump<Limit>(pool_);
    report.check(allocator_.allocate(8) != nullptr, "there is no nursery");
    start_ = allocator_;
  }

  /// Nanoseconds for each of `count` allocations, with the refills that fall due.
  double time(std::size_t loop, std::size_t count) {
    std::size_t made = 0;
    const double elapsed = time_ns([&] { made = bump_loop<Limit>(loop)(allocator_, count); });
    return elapsed / static_cast<double>(made);
  }

  /// Nanoseconds for each of `count` allocations, which fit into the nursery: no refills. Several
  /// times, as the nursery would be too large for the caches otherwise, and a batch too short.
  double time_without_refill(std::size_t loop, std::size_t count) {
    constexpr int kTimes = 16;
    const std::size_t before = pool_.refills();
    std::size_t made = 0;
    const double elapsed = time_ns([&] {
      for (int i = 0; i < kTimes; ++i) {
        allocator_ = start_;
        made += bump_loop<Limit>(loop)(allocator_, count);
      }
    });
    report_.check(pool_.refills() == before, "the nursery filled");
    return elapsed / static_cast<double>(made);
  }

  /// Nanoseconds for an allocation that always finds the nursery full.
  double time_refill() {
    constexpr std::size_t kRefills = 2000;
    const auto largest = static_cast<std::uint16_t>(guard::NurseryPool::kGuardBytes - 8);
    allocator_.allocate(largest);  // from here on there is no room for another
    const std::size_t before = pool_.refills();
    const double elapsed = time_ns([&] {
      for (std::size_t i = 0; i < kRefills; ++i) allocator_.allocate(largest, i);
    });
    report_.check(pool_.refills() - before == kRefills, "not a refill for each allocation");
    return elapsed / kRefills;
  }

  [[nodiscard]] std::size_t refills() const noexcept { return pool_.refills(); }

 private:
  Report& report_;
  guard::NurseryPool pool_;
  Bump<Limit> allocator_;
  Bump<Limit> start_;  // at the beginning of the nursery, with an object in it
};

}  // namespace pagetrap::bench
