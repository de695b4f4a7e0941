// vm.overhead.*: what does going through the library cost, over the same mechanism by hand?
#include <cstddef>
#include <stdexcept>

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "rivals/mprotect_trap.hpp"
#include "rivals/uffd_trap.hpp"
#include "vm/questions.hpp"
#include "vm/trap_sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kPages = 256;

/// Ours and the twin with bare system calls and one region, everything on one CPU: for handler
/// threads that is the fastest place, and the one with the least noise to hide an overhead in.
template <class Twin>
void measure_overhead(BackendId backend, Delivery delivery, const Effort& effort, Report& report) {
  if (const std::string reason = why_not(backend); !reason.empty()) report.skip(reason);
  pin_to_cpu(0);
  RegionTrap ours(kPages * page_size(), write_trap_options(delivery, backend), report);
  Twin twin(kPages * page_size());
  report.parameter("pages", kPages);
  interleave(
      effort, report, [&] { return time_round_trips(ours, kPages, report); },
      [&] { return time_round_trips(twin, kPages, report); });
}

void measure_sigsegv(const Effort& effort, Report& report) {
  measure_overhead<rivals::MprotectTrap>(BackendId::mprotect, Delivery::faulting_thread, effort,
                                         report);
}

void measure_uffd_inline(const Effort& effort, Report& report) {
  measure_overhead<rivals::UffdInlineTrap>(BackendId::uffd_inline, Delivery::faulting_thread,
                                           effort, report);
}

void measure_uffd_thread(const Effort& effort, Report& report) {
  measure_overhead<rivals::UffdThreadTrap>(BackendId::uffd_thread, Delivery::handler_threads,
                                           effort, report);
}

Question question(const char* backend, const char* rival, void (*measure)(const Effort&, Report&)) {
  return {.id = std::string("vm.overhead.") + backend,
          .asks = "our whole cycle against the same mechanism with bare system calls",
          .ours = std::string("backend ") + backend,
          .rival = rival,
          .unit = "ns",
          .target = 1.05,
          .measure = measure,
          .bound = "our code is cold in the first-level caches after the kernel's fault path"};
}

}  // namespace

void add_overhead(Questions& questions) {
  questions.push_back(question("sigsegv", rivals::MprotectTrap::kName, measure_sigsegv));
  questions.push_back(question("uffd_inline", rivals::UffdInlineTrap::kName, measure_uffd_inline));
  questions.push_back(question("uffd_thread", rivals::UffdThreadTrap::kName, measure_uffd_thread));
}

}  // namespace pagetrap::bench
