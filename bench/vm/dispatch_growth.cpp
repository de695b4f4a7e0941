// vm.dispatch_growth: does a trap cost more when 100,000 regions are registered than with one?
//
// Both sides trap at the same random pages of an equal mapping; on one it is a single region, on
// the other each piece of one or two pages is a region of its own. So both miss the caches alike in
// the kernel's tables, and what differs is finding the region and its state. Two processes, since
// registering 100,000 regions takes longer than a batch.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "harness/peer.hpp"
#include "vm/questions.hpp"
#include "vm/trap_sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kRegions = 100'000;
constexpr std::size_t kPages = kRegions * 3 / 2;  // pieces of one and two pages in turns
constexpr std::size_t kTrapsPerBatch = 256;

/// Pieces 0, 1, 2, 3 ... begin at pages 0, 1, 3, 4 ...
std::size_t first_page(std::size_t piece) { return piece / 2 * 3 + piece % 2; }

struct Counter {
  std::uint64_t faults = 0;
  static Verdict unprotect(void* self, const Fault& fault) noexcept {
    ++static_cast<Counter*>(self)->faults;
    return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
  }
};

class RegisteredPieces {
 public:
  RegisteredPieces(bool many, Report& report) : report_(report), memory_(kPages * page_size()) {
    pin_to_cpu(0);
    const double elapsed = time_ns([&] {
      if (many) {
        for (std::size_t piece = 0; piece < kRegions; ++piece) adopt(piece, 1 + piece % 2);
      } else {
        adopt(0, kPages);
      }
    });
    populate(memory_.data(), memory_.size_bytes());
    if (!many) return;
    report_.parameter("registration_ns_each", elapsed / kRegions);
    report_.parameter("mappings", static_cast<double>(count_mappings()));
    report_.parameter("backend", name(regions_.front().backend()));
  }

  double time_traps() {
    std::vector<std::byte*> pages(kTrapsPerBatch);
    for (std::byte*& page : pages) page = arm(random_() % kRegions);
    const std::uint64_t before = counter_.faults;
    const double elapsed = time_ns([&] {
      for (std::byte* const page : pages) write_to(page);
    });
    const std::uint64_t faults = counter_.faults - before;
    report_.check(faults > 0 && faults <= kTrapsPerBatch, "the traps were not seen");
    return elapsed / static_cast<double>(faults);  // a page drawn twice faults once
  }

 private:
  void adopt(std::size_t first, std::size_t pages) {
    auto region = Region::adopt({memory_.page(first_page(first)), Pages{pages}},
                                write_trap_options(Delivery::faulting_thread));
    if (!region) {
      report_.fail("region " + std::to_string(first) + ": " + describe(region.error()));
    }
    region->on_fault(Counter::unprotect, &counter_).value();
    regions_.push_back(std::move(*region));
  }

  std::byte* arm(std::size_t piece) {
    const PageRange page{memory_.page(first_page(piece)), Pages{1}};
    Region& region = regions_.size() == 1 ? regions_.front() : regions_[piece];
    region.protect(page, Access::read).value();
    return page.base;
  }

  Report& report_;
  Mapping memory_;
  Counter counter_;
  std::vector<Region> regions_;
  std::mt19937_64 random_{20230501};  // the same pages on both sides
};

Peer::Batch registered(bool many, Report& report) {
  auto pieces = std::make_shared<RegisteredPieces>(many, report);
  return [pieces] { return pieces->time_traps(); };
}

void measure(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  Peer many(report, [&] { return registered(true, report); });
  Peer one(report, [&] { return registered(false, report); });
  report.parameter("regions", kRegions);
  report.parameter("traps_per_batch", kTrapsPerBatch);
  interleave(
      effort, report, [&] { return many.measure(); }, [&] { return one.measure(); });
}

}  // namespace

void add_dispatch_growth(Questions& questions) {
  questions.push_back({.id = "vm.dispatch_growth",
                       .asks = "a trap with 100,000 regions registered against one with one",
                       .ours = "trap with 100,000 regions",
                       .rival = "trap with one region of all that memory",
                       .unit = "ns",
                       .target = 1.1,
                       .measure = measure,
                       .bound = "cache misses on the state of the region that was hit"});
}

}  // namespace pagetrap::bench
