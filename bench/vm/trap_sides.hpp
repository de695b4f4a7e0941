// Our side of a write-protect trap, and the round trip that several questions time on two sides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <pagetrap/vm/vm.hpp>

#include "harness/clock.hpp"
#include "harness/mapping.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

/// A region whose handler counts the fault and unprotects the page: what the rivals' handlers do.
/// The interface is that of the rivals.
class RegionTrap {
 public:
  /// Ends the process as skipped if there is no such backend here.
  RegionTrap(std::size_t size_bytes, const RegionOptions& options, Report& report);

  [[nodiscard]] Region& region() noexcept { return region_; }
  [[nodiscard]] std::byte* page(std::size_t index) const noexcept {
    return region_.data() + index * page_size();
  }
  bool protect(std::byte* from, std::size_t size_bytes) noexcept {
    return static_cast<bool>(region_.protect({from, pages_for(size_bytes)}, Access::read));
  }

  /// Faults of the calling thread so far; with handler threads, of all threads.
  [[nodiscard]] std::uint64_t faults() const noexcept;

  struct Armed {};  // our handler is in place since the region was made

 private:
  Region region_;
};

/// Options for a region of 4 KiB pages that traps writes.
RegionOptions write_trap_options(Delivery delivery, BackendId backend = BackendId::best);

/// Why the rows about protection keys are left out, where protection_keys_available() is false.
inline constexpr const char* kNoProtectionKeys =
    "no protection keys here: needs the CPU flags pku and ospke, and a hypervisor that shows them";

/// Why `id` cannot be used here, with the remedy; empty if it can.
std::string why_not(BackendId id);

/// PROT1 + TRAP + UNPROT on `pages` pages of `trap`, one after the other: nanoseconds each. Checks
/// that each raised exactly one fault.
template <class Trap>
double time_round_trips(Trap& trap, std::size_t pages, Report& report) {
  [[maybe_unused]] const typename Trap::Armed armed{};
  const std::uint64_t before = trap.faults();
  bool protected_all = true;
  const double elapsed = time_ns([&] {
    for (std::size_t i = 0; i < pages; ++i) {
      std::byte* const page = trap.page(i);
      protected_all &= trap.protect(page, page_size());
      write_to(page);
    }
  });
  report.check(protected_all, "a page could not be protected");
  report.check(trap.faults() - before == pages, "not exactly one fault for each protected page");
  return elapsed / static_cast<double>(pages);
}

}  // namespace pagetrap::bench
