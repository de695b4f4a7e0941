#include "checkpoint/territory.hpp"

#include <algorithm>
#include <new>

#include "checkpoint/lazy_load.hpp"
#include "checkpoint/save.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

constexpr std::size_t kFreshBytes = std::size_t{64} << 10;  // zeroes for a page nobody ever wrote

}  // namespace

Territory::Territory(std::string name, Region region, Cut cut, std::size_t unit_bytes)
    : name_(std::move(name)),
      region_(std::move(region)),
      cut_(cut),
      unit_bytes_(unit_bytes),
      unit_count_((region_.size_bytes() + unit_bytes - 1) / unit_bytes),
      states_(new std::atomic<UnitState>[unit_count_]()),
      method_(make_cut_method(cut, region_)) {}

Result<std::unique_ptr<Territory>> Territory::create(std::string name, Region region, Cut cut,
                                                     std::size_t unit_bytes) {
  try {
    std::unique_ptr<Territory> made(
        new Territory(std::move(name), std::move(region), cut, unit_bytes));
    if (const auto set = made->region_.on_fault(&Territory::on_fault, made.get()); !set)
      return set.error();
    return made;
  } catch (const std::bad_alloc&) {
    return Error{"Checkpointer: bookkeeping of a region", ENOMEM};
  }
}

// The handler goes with the region, which waits for those that are running.
Territory::~Territory() = default;

void Territory::begin_save(Save& save, std::uint32_t index, std::size_t length) {
  index_ = index;
  taken_.store(false);
  extent_ = {region_.data(), pages_for(length)};
  units_ = (length + unit_bytes_ - 1) / unit_bytes_;
  for (std::size_t unit = 0; unit < units_; ++unit)
    states_[unit].store(UnitState::pending, std::memory_order_relaxed);
  save_.store(&save, std::memory_order_seq_cst);
}

void Territory::end_save() noexcept {
  save_.store(nullptr, std::memory_order_seq_cst);
  region_.quiesce();  // handlers that have read it
}

PageRange Territory::unit_range(std::size_t first, std::size_t count) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::size_t begin = first * unit_bytes_;
  const std::size_t end = std::min(extent_.size_bytes(), begin + count * unit_bytes_);
  return {extent_.base + begin, pages_for(end - begin)};
}

bool Territory::claim(std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE {
  UnitState pending = UnitState::pending;
  return states_[unit].compare_exchange_strong(pending, UnitState::claimed,
                                               std::memory_order_acq_rel);
}

void Territory::unclaim(std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE {
  states_[unit].store(UnitState::pending, std::memory_order_release);
}

// RACE a thread that faults now: until the states change it waits, and is woken after. A handler
// that reads the new state finds the pages there, or pages that nobody ever wrote, and fills those.
// So the pages come first, then the states, then the wake-ups.
Result<Done> Territory::release(std::size_t first, std::size_t count) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const PageRange range = unit_range(first, count);
  const auto released = method_->release(range);
  if (!released) return released;
  for (std::size_t unit = first; unit < first + count; ++unit)
    states_[unit].store(UnitState::released, std::memory_order_release);
  wake(range);
  return Done{};
}

void Territory::wake(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  releases_.fetch_add(1, std::memory_order_release);
  sys::futex_wake_all(releases_);
  // It can fail only for a range that is not the region's.
  static_cast<void>(region_.wake(range));
}

void Territory::open_all() noexcept {
  for (std::size_t unit = 0; unit < units_; ++unit)
    states_[unit].store(UnitState::released, std::memory_order_release);
  if (units_ != 0) wake(extent_);
}

void Territory::abandon_in_child() noexcept {
  save_.store(nullptr);
  // What is not released yet comes back all at once; what is refused stays in the window, where
  // faults find it.
  for (std::size_t unit = 0; unit < units_; ++unit) {
    if (cut_ == Cut::write_protect && state(unit) != UnitState::released)
      static_cast<void>(method_->release(unit_range(unit, 1)));
  }
  static_cast<void>(method_->finish());
  open_all();
}

void Territory::begin_lazy(LazyLoad& load) noexcept { lazy_.store(&load); }

void Territory::end_lazy() noexcept {
  lazy_.store(nullptr, std::memory_order_seq_cst);
  region_.quiesce();
}

Verdict Territory::on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  auto& territory = *static_cast<Territory*>(self);
  if (Save* const save = territory.save_.load(std::memory_order_seq_cst))
    return territory.during_save(*save, fault);
  if (LazyLoad* const load = territory.lazy_.load(std::memory_order_seq_cst))
    return load->on_fault(fault);
  return territory.open(fault);
}

// Nothing of a save is at this page: a page nobody ever wrote, or one that was opened meanwhile.
Verdict Territory::open(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  if (fault.kind == FaultKind::write_protected)
    return region_.unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
  // Some at once: a unit begins and ends where this does.
  const std::size_t offset =
      static_cast<std::size_t>(fault.page.base - region_.data()) & ~(kFreshBytes - 1);
  const std::size_t length = std::min(kFreshBytes, region_.size_bytes() - offset);
  const PageRange range{region_.data() + offset, pages_for(length)};
  return region_.supply(range, nullptr, Supply::zero) ? Verdict::resolved : Verdict::not_mine;
}

Verdict Territory::during_save(Save& save, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  const bool in_thread = fault.context != nullptr;
  // Nobody goes on before the last region is cut: see docs/design/checkpoint.md, "Exactly".
  if (!save.wait_for_cut(*this, in_thread)) return Verdict::retry;
  const auto unit = static_cast<std::size_t>(fault.page.base - extent_.base) / unit_bytes_;
  if (!extent_.contains(fault.page.base)) return open(fault);
  save.count_fault();
  for (;;) {
    const std::uint32_t seen = releases_.load(std::memory_order_acquire);
    const UnitState now = state(unit);
    if (now == UnitState::released) return open(fault);
    if (now == UnitState::pending) {
      // Not retry: in a frozen region that would wait for the thaw of all of it.
      if (in_thread && save.copy_in_fault(*this, unit)) return Verdict::resolved;
      save.want(*this, unit);
    }
    if (!in_thread) return Verdict::resolved;  // the thread sleeps until the release
    sys::futex_wait(releases_, seen);
  }
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
