// vm.guard_page: put up one guard page in a heap.
//
// Every other page is in use and the page after it becomes a guard, never touched before: a heap
// that guards its large objects. mprotect splits its mapping each time, guard markers do not.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <utility>

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "vm/questions.hpp"
#include "vm/trap_sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kGuards = 1024;  // a batch
constexpr std::size_t kPages = kGuards * 2 + 1;

void use_every_other_page(std::byte* base) {
  for (std::size_t i = 0; i < kPages; i += 2) write_to(base + i * page_size());
}

std::byte* guard_at(std::byte* base, std::size_t index) {
  return base + (index * 2 + 1) * page_size();
}

/// Whether the kernel refuses to read there. No signal is raised, so no handler is asked.
bool is_guarded(const std::byte* address) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) return false;
  const bool refused = write(ends[1], address, 1) < 0;
  close(ends[0]);
  close(ends[1]);
  return refused;
}

template <class Install>
double time_guards(std::byte* base, Report& report, Install&& install) {
  bool installed_all = true;
  const double elapsed = time_ns([&] {
    for (std::size_t i = 0; i < kGuards; ++i) installed_all &= install(guard_at(base, i));
  });
  report.check(installed_all, "a guard page was refused");
  report.check(
      is_guarded(guard_at(base, 0)) && is_guarded(guard_at(base, kGuards - 1)) && !is_guarded(base),
      "a guard page does not guard");
  return elapsed / kGuards;
}

void measure(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  RegionOptions options = write_trap_options(Delivery::faulting_thread);
  options.faults = FaultKind::no_access;
  auto region = Region::create(kPages * page_size(), options);
  if (!region) report.skip(describe(region.error()));
  report.parameter("backend", name(region->backend()));
  report.parameter("guards_per_batch", kGuards);
  Mapping memory(kPages * page_size());
  use_every_other_page(region->data());
  use_every_other_page(memory.data());
  interleave(
      effort, report,
      [&] {
        const double cost = time_guards(region->data(), report, [&](std::byte* page) {
          return static_cast<bool>(region->guard({page, Pages{1}}));
        });
        for (std::size_t i = 0; i < kGuards; ++i) {
          region->unguard({guard_at(region->data(), i), Pages{1}}).value();
        }
        return cost;
      },
      [&] {
        const double cost = time_guards(memory.data(), report, [](std::byte* page) {
          return mprotect(page, page_size(), PROT_NONE) == 0;
        });
        mprotect(memory.data(), memory.size_bytes(), PROT_READ | PROT_WRITE);
        return cost;
      });
}

}  // namespace

void add_guard_page(Questions& questions) {
  questions.push_back({.id = "vm.guard_page",
                       .asks = "put up one guard page in a heap",
                       .ours = "guard() of one page",
                       .rival = "mprotect of one page to PROT_NONE",
                       .unit = "ns",
                       .target = 0.5,
                       .measure = measure,
                       .bound = "one system call on both sides"});
}

}  // namespace pagetrap::bench
