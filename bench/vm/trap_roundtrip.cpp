// vm.trap_roundtrip: what does it cost to protect a page, trap the store to it, and open it again?
// The paper's TRAP + PROT1 + UNPROT, its first column.
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "rivals/libsigsegv_trap.hpp"
#include "rivals/mprotect_trap.hpp"
#include "vm/questions.hpp"
#include "vm/trap_sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kPages = 256;  // 1 MiB: in the second-level TLB, as a hot heap is

void measure_against_mprotect(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  RegionTrap ours(kPages * page_size(), write_trap_options(Delivery::faulting_thread), report);
  rivals::MprotectTrap rival(kPages * page_size());
  report.parameter("pages", kPages);
  interleave(
      effort, report, [&] { return time_round_trips(ours, kPages, report); },
      [&] { return time_round_trips(rival, kPages, report); });
}

void measure_against_libsigsegv(const Effort& effort, Report& report) {
  rivals::Libsigsegv library;
  if (!library.open()) report.skip("libsigsegv is not installed (Debian package libsigsegv2)");
  pin_to_cpu(0);
  RegionTrap ours(kPages * page_size(), write_trap_options(Delivery::faulting_thread), report);
  rivals::LibsigsegvTrap rival(library, kPages * page_size());
  report.parameter("pages", kPages);
  interleave(
      effort, report, [&] { return time_round_trips(ours, kPages, report); },
      [&] { return time_round_trips(rival, kPages, report); });
}

struct WholeRegion {
  std::uint64_t faults = 0;
  static Verdict open(void* self, const Fault& fault) noexcept {
    ++static_cast<WholeRegion*>(self)->faults;
    return fault.region->unprotect(fault.region->range()) ? Verdict::resolved : Verdict::not_mine;
  }
};

constexpr std::size_t kWholePages = 256;
constexpr int kToggles = 128;

/// The rival's handler opens a page; here the whole range is opened, so it needs its own.
PageRange g_whole;
std::uint64_t g_whole_faults = 0;

void open_whole(int, siginfo_t* info, void*) {
  if (!g_whole.contains(info->si_addr)) {
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  ++g_whole_faults;
  mprotect(g_whole.base, g_whole.size_bytes(), PROT_READ | PROT_WRITE);
}

template <class Protect>
double time_toggles(const std::uint64_t& faults, std::byte* base, Report& report,
                    Protect&& protect) {
  const std::uint64_t before = faults;
  const double elapsed = time_ns([&] {
    for (int i = 0; i < kToggles; ++i) {
      protect();
      write_to(base + static_cast<std::size_t>(i) % kWholePages * page_size());
    }
  });
  report.check(faults - before == kToggles, "not exactly one fault for each closing");
  return elapsed / kToggles;
}

void measure_whole_region_by_key(const Effort& effort, Report& report) {
  if (!protection_keys_available()) {
    report.skip(kNoProtectionKeys);
  }
  pin_to_cpu(0);
  auto region = Region::create(kWholePages * page_size(),
                               write_trap_options(Delivery::faulting_thread, BackendId::pkey));
  if (!region) report.skip(describe(region.error()));
  WholeRegion whole;
  region->on_fault(WholeRegion::open, &whole).value();
  populate(region->data(), region->size_bytes());
  Mapping memory(kWholePages * page_size());
  populate(memory.data(), memory.size_bytes());
  g_whole = {memory.data(), Pages{kWholePages}};
  report.parameter("pages", kWholePages);
  interleave(
      effort, report,
      [&] {
        return time_toggles(whole.faults, region->data(), report,
                            [&] { (void)region->protect(region->range(), Access::read); });
      },
      [&] {
        const rivals::HandlerSwap swap(SIGSEGV, open_whole);
        return time_toggles(g_whole_faults, memory.data(), report,
                            [&] { mprotect(memory.data(), memory.size_bytes(), PROT_READ); });
      });
}

}  // namespace

void add_trap_roundtrip(Questions& questions) {
  const char* const ours = "protect one page, fault, unprotect: best in-thread backend";
  questions.push_back(
      {.id = "vm.trap_roundtrip",
       .asks = "protect a page, trap the store to it, open it: against mprotect by hand",
       .ours = ours,
       .rival = rivals::MprotectTrap::kName,
       .unit = "ns",
       .target = 0.70,
       .measure = measure_against_mprotect,
       .bound = "both pay the kernel's signal frame; only the two system calls differ"});
  questions.push_back({.id = "vm.trap_roundtrip.libsigsegv",
                       .asks = "the same against libsigsegv",
                       .ours = ours,
                       .rival = rivals::LibsigsegvTrap::kName,
                       .unit = "ns",
                       .target = 0.65,
                       .measure = measure_against_libsigsegv,
                       .bound = "both pay the kernel's signal frame"});
  questions.push_back({.id = "vm.trap_roundtrip.pkey",
                       .asks = "close a whole region, trap the store, open it: by protection key",
                       .ours = "protect a whole region by its key, fault, unprotect",
                       .rival = "mprotect of the whole region + SIGSEGV by hand",
                       .unit = "ns",
                       .target = 0.30,
                       .measure = measure_whole_region_by_key,
                       .bound = "delivering the signal, 1.8 us of the 2.5"});
}

}  // namespace pagetrap::bench
