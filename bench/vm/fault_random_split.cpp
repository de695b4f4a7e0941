// vm.fault_random_split: single-page unprotects in random order over 1 GiB.
//
// mprotect splits the mapping at every page until vm.max_map_count is reached: then it fails, and
// with it malloc and pthread_create. Both sides go through the same random order, a slice in turns,
// until the rival fails; then ours goes on to the last page.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "rivals/mprotect_trap.hpp"
#include "vm/questions.hpp"
#include "vm/trap_sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kPages = 1_GiB / 4096;
constexpr std::size_t kSlice = 1024;

/// One side's walk through the pages.
template <class Trap>
class Walk {
 public:
  Walk(Trap& trap, const std::vector<std::uint32_t>& order, Report& report)
      : trap_(trap), order_(order), report_(report) {
    report.check(trap.protect(trap.page(0), kPages * page_size()), "1 GiB cannot be protected");
  }

  /// Nanoseconds per page of the next slice.
  double time_slice() {
    [[maybe_unused]] const typename Trap::Armed armed{};
    const std::size_t end = std::min(next_ + kSlice, order_.size());
    const std::uint64_t before = trap_.faults();
    const std::size_t begin = next_;
    const double elapsed = time_ns([&] {
      for (; next_ < end; ++next_) write_to(trap_.page(order_[next_]));
    });
    faults_ = trap_.faults() - before;
    pages_ = end - begin;
    return elapsed / static_cast<double>(pages_);
  }

  void check_every_page_faulted() {
    report_.check(faults_ == pages_, "not exactly one fault for each page");
  }
  [[nodiscard]] std::size_t done() const noexcept { return next_; }
  [[nodiscard]] std::uint64_t faults_of_slice() const noexcept { return faults_; }

 private:
  Trap& trap_;
  const std::vector<std::uint32_t>& order_;
  Report& report_;
  std::size_t next_ = 0;
  std::size_t pages_ = 0;
  std::uint64_t faults_ = 0;
};

void measure(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  std::vector<std::uint32_t> order(kPages);
  std::iota(order.begin(), order.end(), 0U);
  std::shuffle(order.begin(), order.end(), std::mt19937(7));
  RegionTrap ours(kPages * page_size(), write_trap_options(Delivery::faulting_thread), report);
  rivals::MprotectTrap rival(kPages * page_size());
  Walk our_walk(ours, order, report);
  Walk rival_walk(rival, order, report);

  Effort until_it_fails = effort;
  until_it_fails.seconds = 60;
  until_it_fails.max_pairs = static_cast<int>(kPages / kSlice) - 2;
  interleave(
      until_it_fails, report,
      [&] {
        const double cost = our_walk.time_slice();
        our_walk.check_every_page_faulted();
        return cost;
      },
      [&] {
        const double cost = rival_walk.time_slice();
        if (rivals::MprotectTrap::failure() == 0) rival_walk.check_every_page_faulted();
        return cost;
      },
      [] { return rivals::MprotectTrap::failure() == 0; });
  if (rivals::MprotectTrap::failure() != 0) {
    report.parameter("rival_failed_at_page", static_cast<double>(rival_walk.done() - kSlice +
                                                                 rival_walk.faults_of_slice()));
    report.parameter("rival_errno", rivals::MprotectTrap::failure());
  }
  rival.memory().unmap();
  double slowest = 0;
  while (our_walk.done() < kPages) {
    slowest = std::max(slowest, our_walk.time_slice());
    our_walk.check_every_page_faulted();
  }
  report.parameter("ours_finished_pages", static_cast<double>(our_walk.done()));
  report.parameter("ours_slowest_slice_ns_per_page", slowest);
  report.parameter("ours_mappings_at_end", static_cast<double>(count_mappings()));
  report.parameter("max_map_count", static_cast<double>(max_map_count()));
}

}  // namespace

void add_fault_random_split(Questions& questions) {
  questions.push_back({.id = "vm.fault_random_split",
                       .asks = "traps at single pages in random order over 1 GiB",
                       .ours = "fault + unprotect, random pages of 1 GiB: best backend",
                       .rival = rivals::MprotectTrap::kName,
                       .unit = "ns",
                       .target = 0.60,
                       .measure = measure,
                       .bound = "both pay the kernel's signal frame"});
}

}  // namespace pagetrap::bench
