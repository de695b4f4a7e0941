// vm.threads.N: faults per second with N threads in one region, as the time per fault of all of
// them together.
//
// Each thread touches its own share of the pages. The pages are dealt out in random order, so that
// mprotect has to split its mapping (its usual fate in a heap); the sequential order, its best
// case, is measured as well and reported as a parameter.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "rivals/mprotect_trap.hpp"
#include "vm/questions.hpp"
#include "vm/trap_sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kPages = 16384;  // 64 MiB: random order splits into at most so many mappings

using Order = std::vector<std::uint32_t>;

/// Threads that start together.
class StartLine {
 public:
  explicit StartLine(int threads) : missing_(threads) {}
  void wait() {
    if (missing_.fetch_sub(1) == 1) {
      begin_ = now_ns();
      missing_.notify_all();
    }
    // Sleeping, not spinning: there may be fewer CPUs than threads.
    for (int left = missing_.load(); left > 0; left = missing_.load()) missing_.wait(left);
  }
  [[nodiscard]] double begin() const noexcept { return begin_; }

 private:
  std::atomic<int> missing_;
  double begin_ = 0;
};

/// Nanoseconds per fault, all pages of `trap` touched once by `threads` threads in `order`.
template <class Trap>
double time_faults(Trap& trap, const Order& order, int threads, Report& report) {
  report.check(trap.protect(trap.page(0), kPages * page_size()), "the pages cannot be protected");
  [[maybe_unused]] const typename Trap::Armed armed{};
  StartLine line(threads);
  std::atomic<std::uint64_t> faults{0};
  const std::size_t share = kPages / static_cast<std::size_t>(threads);
  std::vector<std::thread> team;
  team.reserve(static_cast<std::size_t>(threads));
  for (int index = 0; index < threads; ++index) {
    team.emplace_back([&, index] {
      pin_to_cpu(index);
      const std::uint64_t before = trap.faults();
      const std::size_t first = static_cast<std::size_t>(index) * share;
      line.wait();
      for (std::size_t i = first; i < first + share; ++i) write_to(trap.page(order[i]));
      faults.fetch_add(trap.faults() - before);
    });
  }
  for (std::thread& thread : team) thread.join();
  const double elapsed = now_ns() - line.begin();
  report.check(faults == kPages, "not exactly one fault for each page");
  return elapsed / static_cast<double>(kPages);
}

void measure_threads(int threads, const Effort& effort, Report& report) {
  Order sequential(kPages);
  std::iota(sequential.begin(), sequential.end(), 0U);
  Order random = sequential;
  std::shuffle(random.begin(), random.end(), std::mt19937(11));

  RegionTrap ours(kPages * page_size(), write_trap_options(Delivery::faulting_thread), report);
  rivals::MprotectTrap rival(kPages * page_size());
  report.parameter("threads", threads);
  report.parameter("cpus", cpu_count());
  report.parameter("pages", kPages);
  report.parameter("order", "random");
  interleave(
      with_fewer_pairs(effort, 5), report,
      [&] { return time_faults(ours, random, threads, report); },
      [&] { return time_faults(rival, random, threads, report); });
  std::vector<double> ratios;
  for (int i = 0; i < 3; ++i) {
    const double our_cost = time_faults(ours, sequential, threads, report);
    ratios.push_back(our_cost / time_faults(rival, sequential, threads, report));
  }
  report.parameter("ratio_sequential_order", median(ratios));
}

template <int Threads>
void measure(const Effort& effort, Report& report) {
  measure_threads(Threads, effort, report);
}

Question question(int threads, void (*measure)(const Effort&, Report&)) {
  return {.id = "vm.threads." + std::to_string(threads),
          .asks = "faults per second of " + std::to_string(threads) + " threads in one region",
          .ours = "fault + unprotect: best in-thread backend",
          .rival = rivals::MprotectTrap::kName,
          .unit = "ns",
          .target = 0.70,
          .measure = measure,
          .scheduling = threads == 1 ? Scheduling::real_time : Scheduling::fair_group,
          .bound = "on both sides: the signal frame, and interrupting the other CPUs"};
}

}  // namespace

void add_threads(Questions& questions) {
  questions.push_back(question(1, measure<1>));
  questions.push_back(question(2, measure<2>));
  questions.push_back(question(4, measure<4>));
  questions.push_back(question(8, measure<8>));
}

}  // namespace pagetrap::bench
