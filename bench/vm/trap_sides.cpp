#include "vm/trap_sides.hpp"

#include <atomic>
#include <utility>

namespace pagetrap::bench {

namespace {

constinit thread_local std::uint64_t t_faults = 0;
std::atomic<std::uint64_t> g_faults_of_handler_threads{0};

Verdict unprotect_in_faulting_thread(void*, const Fault& fault) noexcept {
  ++t_faults;
  return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
}

Verdict unprotect_in_handler_thread(void*, const Fault& fault) noexcept {
  g_faults_of_handler_threads.fetch_add(1, std::memory_order_relaxed);
  return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
}

Region make_region(std::size_t size_bytes, const RegionOptions& options, Report& report) {
  auto region = Region::create(size_bytes, options);
  if (!region) report.skip(describe(region.error()));
  return std::move(*region);
}

}  // namespace

RegionTrap::RegionTrap(std::size_t size_bytes, const RegionOptions& options, Report& report)
    : region_(make_region(size_bytes, options, report)) {
  const bool in_thread = region_.can().faulting_thread;
  region_.on_fault(in_thread ? unprotect_in_faulting_thread : unprotect_in_handler_thread, nullptr)
      .value();
  populate(region_.data(), size_bytes);
  report.parameter("backend", name(region_.backend()));
}

std::uint64_t RegionTrap::faults() const noexcept {
  return t_faults + g_faults_of_handler_threads.load(std::memory_order_relaxed);
}

RegionOptions write_trap_options(Delivery delivery, BackendId backend) {
  RegionOptions options;
  options.name = "bench";
  options.faults = FaultKind::write_protected;
  options.delivery = delivery;
  options.backend = backend;
  options.huge_pages = HugePages::never;
  return options;
}

std::string why_not(BackendId id) {
  for (const Backend& backend : backends()) {
    if (backend.id != id) continue;
    if (backend.available) return {};
    std::string reason = backend.reason;
    if (backend.remedy[0] != '\0') reason += std::string("; ") + backend.remedy;
    return reason;
  }
  return "no such backend";
}

}  // namespace pagetrap::bench
