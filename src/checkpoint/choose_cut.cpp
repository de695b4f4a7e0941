// Cut::automatic: what this machine does fastest, among what the program's options allow.
#include <algorithm>
#include <array>
#include <cstring>

#include "checkpoint/cut_method.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

constexpr std::size_t kSample = std::size_t{32} << 20;  // bytes
constexpr std::size_t kTypical = std::size_t{1} << 30;  // the heap that the choice is made for

// How long the cut of a heap of kTypical takes, in nanoseconds. The best of three, since a cut that
// was interrupted says nothing of the next.
Result<double> measure(Cut cut, const CheckpointerOptions& options) {
  const auto plan = plan_for(cut, options);
  if (!plan) return plan.error();
  RegionOptions sample = plan->region;
  sample.alignment = std::size_t{1} << 30;
  auto region = Region::create(kSample, sample);
  if (!region) return region.error();
  if (sample.faults.has(FaultKind::missing)) {
    if (const auto filled = region->supply(region->range(), nullptr, Supply::zero); !filled)
      return filled.error();
  }
  if (cut != Cut::lift) std::memset(region->data(), 1, kSample);
  const std::unique_ptr<CutMethod> method = make_cut_method(cut, *region);
  double best = 0;
  for (int i = 0; i < 3; ++i) {
    const std::uint64_t started = sys::monotonic_nanoseconds();
    const PageRange all = region->range();
    if (const auto taken = method->take(all, {&all, 1}); !taken) return taken.error();
    const auto took = static_cast<double>(sys::monotonic_nanoseconds() - started);
    if (!method->away().empty()) {
      if (const auto back = method->bring_back(method->away()); !back) return back.error();
    }
    if (const auto released = method->release(region->range()); !released) return released.error();
    if (const auto finished = method->finish(); !finished) return finished.error();
    best = i == 0 ? took : std::min(best, took);
  }
  // Only this one goes page by page.
  return cut == Cut::write_protect ? best * static_cast<double>(kTypical / kSample) : best;
}

}  // namespace

Result<Cut> choose_cut(const CheckpointerOptions& options) {
  Error refused;
  Cut chosen = Cut::automatic;
  double least = 0;
  for (const Cut cut : {Cut::lift, Cut::protection_key, Cut::write_protect}) {
    // Its system calls fail with EFAULT: only for those who say that they can live with it.
    if (cut == Cut::protection_key && options.kernel_accesses) continue;
    // Its pages come by faults, a few small ones at a time.
    if (cut == Cut::lift && options.huge_pages) continue;
    const auto nanoseconds = measure(cut, options);
    if (!nanoseconds) {
      if (refused.number == 0) refused = nanoseconds.error();
      continue;
    }
    if (chosen != Cut::automatic && *nanoseconds >= least) continue;
    chosen = cut;
    least = *nanoseconds;
  }
  if (chosen == Cut::automatic) return refused;
  return chosen;
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
