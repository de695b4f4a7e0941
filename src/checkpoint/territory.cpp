#include "checkpoint/territory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include "checkpoint/lazy_load.hpp"
#include "checkpoint/save.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/thread_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

constexpr std::size_t kFreshBytes = std::size_t{64} << 10;  // zeroes for a page nobody ever wrote
constexpr std::uint8_t kHot = 2;                            // increments
constexpr std::size_t kSampled = 8;                         // pieces
constexpr unsigned kSampleLeast = 1000;                     // us
// Units that threads open, in all: as long as they are fewer, most of the time is left to protect
// them again, where a call costs 25 us (a virtual machine whose other processor is busy).
constexpr double kFewPerSecond = 20'000;
constexpr unsigned kPasses = 4;        // of protecting ahead of a cut
constexpr std::size_t kGapUnits = 16;  // 1 MiB, or 32 MiB of huge pages
constexpr std::size_t kFewRuns = 8;    // as dear as a piece of 8 MiB
constexpr std::size_t kStrideBytes = std::size_t{256} << 10;
constexpr std::size_t kPieceBytes = std::size_t{8} << 20;  // 0.1 ms to protect and move: a wait

static_assert(sizeof(std::atomic<UnitState>) == 1 && UnitState{} == UnitState::open);

}  // namespace

Territory::Territory(std::string name, Region region, const Shape& shape)
    : name_(std::move(name)),
      region_(std::move(region)),
      shape_(shape),
      unit_count_((region_.size_bytes() + shape.unit_bytes - 1) / shape.unit_bytes),
      piece_states_(
          new std::atomic<PieceState>[(region_.size_bytes() + kPieceBytes - 1) / kPieceBytes]()),
      method_(make_cut_method(shape.cut, region_)) {}

Result<std::unique_ptr<Territory>> Territory::create(std::string name, Region region, Shape shape) {
  try {
    std::unique_ptr<Territory> made(new Territory(std::move(name), std::move(region), shape));
    sys::Mapping::Request request;
    const std::size_t table = bytes(pages_for(made->unit_count_));
    request.size_bytes = 2 * table;
    request.prot = PROT_READ | PROT_WRITE;
    request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    auto states = sys::Mapping::create(request);
    if (!states) return states.error();
    made->state_memory_ = std::move(*states);
    made->states_ = reinterpret_cast<std::atomic<UnitState>*>(made->state_memory_.data());
    made->heat_ = reinterpret_cast<std::atomic<std::uint8_t>*>(made->state_memory_.data() + table);
    if (made->protects() && shape.keeps_protected) {
      const auto hashes = made->hashes_.create(made->region_.range().length);
      if (!hashes) return hashes.error();
    }
    if (const auto set = made->region_.on_fault(&Territory::on_fault, made.get()); !set)
      return set.error();
    return made;
  } catch (const std::bad_alloc&) {
    return Error{"Checkpointer: bookkeeping of a region", ENOMEM};
  }
}

// The region first: it waits for handlers that are running, which use all the rest (a fault may be
// reported twice, and its second handler be late).
Territory::~Territory() { region_ = Region(); }

void Territory::forget_images() noexcept {
  if (sys::advise(state_memory_.range(), MADV_DONTNEED) != 0)
    set_states(0, unit_count_, UnitState::open);
  hashes_.forget();
}

// --- a save

void Territory::protect_ahead(std::size_t length) noexcept {
  if (!protects()) return;
  arm_ahead(length);
  // Handlers that have begun end before the cut, which waits for them.
  region_.quiesce();
}

void Territory::arm_ahead(std::size_t length) noexcept {
  const std::size_t units = (length + shape_.unit_bytes - 1) / shape_.unit_bytes;
  armed_units_ = units;
  const std::size_t in_piece = kPieceBytes / shape_.unit_bytes;
  const std::size_t pieces = (units + in_piece - 1) / in_piece;
  const auto arm = [&](std::size_t piece) {
    return arm_units(piece * in_piece, std::min(units, (piece + 1) * in_piece));
  };
  // A few, far from each other: do threads write so fast that protecting is for nothing, and only
  // stops them?
  const std::size_t stride = std::max<std::size_t>(1, pieces / kSampled);
  const std::uint64_t began = sys::monotonic_nanoseconds();
  std::size_t armed = 0;
  for (std::size_t piece = 0; piece < pieces; piece += stride) armed += arm(piece);
  if (armed == 0) return;
  ::usleep(kSampleLeast);
  std::size_t opened = 0;
  for (std::size_t piece = 0; piece < pieces; piece += stride)
    for (std::size_t unit = piece * in_piece; unit < std::min(units, (piece + 1) * in_piece);
         ++unit)
      if (state(unit) == UnitState::open) ++opened;
  const auto seconds = static_cast<double>(sys::monotonic_nanoseconds() - began) / 1e9;
  if (static_cast<double>(opened * stride) / seconds > kFewPerSecond) {
    for (std::size_t piece = 0; piece < pieces; piece += stride)
      disarm_units(piece * in_piece, std::min(units, (piece + 1) * in_piece));
    return;
  }
  std::size_t before = 2 * units + 1;  // the first pass finds all of them open
  for (unsigned pass = 0; pass < kPasses; ++pass) {
    armed = 0;
    for (std::size_t piece = 0; piece < pieces; ++piece) armed += arm(piece);
    if (armed == 0 || armed > before / 2) return;
    before = armed;
  }
}

// Not what was clean before: nobody would know that it is written.
void Territory::disarm_units(std::size_t first, std::size_t end) noexcept {
  for (std::size_t unit = first; unit < end; ++unit) {
    UnitRun run{unit, 0};
    while (unit < end && state(unit) == UnitState::armed) {
      ++run.count;
      ++unit;
    }
    // What is refused is opened when it is touched.
    if (run.count != 0) static_cast<void>(make_writable(run));
  }
}

// Returns how many units were open.
// RACE the state comes first. A thread that faults on a unit that is armed opens it: the state,
// then the page. If this protects the page once more, after that, the unit is open and protected,
// which any fault mends. The other way round a unit could be armed and not protected.
std::size_t Territory::arm_units(std::size_t first, std::size_t end) noexcept {
  std::size_t armed = 0;
  std::size_t runs = 0;
  UnitRun run{first, 0};
  const auto protect = [this](UnitRun which) {
    // What is refused is protected by the cut: it is open then.
    if (region_.protect(unit_range(which.first, which.count), Access::read)) return;
    for (std::size_t unit = which.first; unit < which.first + which.count; ++unit) set_open(unit);
  };
  for (std::size_t unit = first; unit < end; ++unit) {
    UnitState open = UnitState::open;
    if (!states_[unit].compare_exchange_strong(open, UnitState::armed)) continue;
    ++armed;
    if (run.count != 0 && run.first + run.count == unit) {
      ++run.count;
      continue;
    }
    // A few calls for what they are about; many, and the whole piece at once costs less.
    if (run.count != 0 && runs <= kFewRuns) protect(run);
    ++runs;
    run = {unit, 1};
  }
  if (run.count == 0) return 0;
  if (runs <= kFewRuns) {
    protect(run);
  } else {
    protect({first, end - first});
  }
  return armed;
}

Result<Done> Territory::begin_save(Save& save, std::uint32_t index, std::size_t length,
                                   bool written_only, bool keeps_protected) {
  index_ = index;
  taken_.store(false);
  extent_ = {region_.data(), pages_for(length)};
  units_ = (length + shape_.unit_bytes - 1) / shape_.unit_bytes;
  written_only_ = written_only;
  keeps_ = keeps_protected && protects() && tracks_writes();
  pieces_ = pending_units_ = 0;
  unprotected_.store(false, std::memory_order_relaxed);
  save_.store(&save, std::memory_order_seq_cst);
  // RACE a handler that began before opens a clean unit: its state says so when the handler has
  // ended, and the unit is cut with the others. One that begins now does nothing before the cut.
  region_.quiesce();
  // What the last image has is left out, or is in this one, too.
  const bool skips_clean = written_only && protects();
  open_runs_.clear();
  try {
    for (std::size_t unit = 0; unit < units_;) unit = make_pending(unit, skips_clean);
  } catch (const std::bad_alloc&) {
    return Error{"checkpoint: list of pages to cut", ENOMEM, extent_};
  }
  return Done{};
}

void Territory::warm(std::size_t unit) noexcept {
  const std::uint8_t before = heat_[unit].load(std::memory_order_relaxed);
  if (before < kHot) heat_[unit].store(static_cast<std::uint8_t>(before + 1));
}

// A unit that each increment finds open is left open when it has been copied, and compared by its
// hashes each time: cheaper than a fault for each.
bool Territory::stays_protected(std::size_t unit) const noexcept PAGETRAP_SIGNAL_SAFE {
  return keeps_ && !unprotected_.load(std::memory_order_relaxed) &&
         heat_[unit].load(std::memory_order_relaxed) < kHot;
}

// From `first` on: as many units as there are states in a word if they are all the same, else one.
// Returns the next one. Nobody else changes states now.
std::size_t Territory::make_pending(std::size_t first, bool skips_clean) {
  constexpr std::size_t kWord = sizeof(std::uint64_t);
  constexpr std::uint64_t kEach = 0x0101010101010101U;
  std::size_t count = 1;
  const UnitState before = states_[first].load(std::memory_order_relaxed);
  if (first % kWord == 0 && first + kWord <= units_) {
    auto& word = reinterpret_cast<std::uint64_t&>(states_[first]);
    if (word == kEach * static_cast<std::uint64_t>(before)) {
      count = kWord;
      if (before != UnitState::clean || !skips_clean)
        word = kEach * static_cast<std::uint64_t>(UnitState::pending);
    }
  }
  if (skips_clean) {
    for (std::size_t unit = first; unit < first + count; ++unit) {
      if (before == UnitState::clean) {
        cool(unit);
      } else {
        warm(unit);
      }
    }
    if (before == UnitState::clean) return first + count;
  }
  if (count == 1) states_[first].store(UnitState::pending, std::memory_order_relaxed);
  pending_units_ += count;
  if (before != UnitState::open) return first + count;
  const PageRange range = unit_range(first, count);
  // What lies between and is protected already costs less to protect again than another call.
  const auto gap = [&] { return static_cast<std::size_t>(range.base - open_runs_.back().end()); };
  if (!open_runs_.empty() && gap() <= kGapUnits * shape_.unit_bytes) {
    PageRange& last = open_runs_.back();
    last.length = pages_for(static_cast<std::size_t>(range.end() - last.base));
  } else {
    open_runs_.push_back(range);
  }
  return first + count;
}

Result<Done> Territory::take() {
  if (units_ != 0) {
    if (const auto done = method_->take(extent_, open_runs_); !done) return done;
    // The last one is what is left: more than a piece where an arena has not used it yet.
    away_ = method_->away();
    if (!away_.empty())
      pieces_ = std::max<std::size_t>(1, (extent_.size_bytes() + kPieceBytes - 1) / kPieceBytes);
    for (std::size_t piece = 0; piece < pieces_; ++piece)
      piece_states_[piece].store(PieceState::away, std::memory_order_relaxed);
  }
  taken_.store(true, std::memory_order_release);
  return Done{};
}

// States become open, whatever is protected: such pages are opened when they are touched.
void Territory::undo() noexcept {
  // What is refused is tried until it works: threads wait, and nothing is lost.
  while (units_ != 0 && taken() && !method_->undo(extent_)) ::usleep(1000);
  pieces_ = 0;
  set_states(0, units_, UnitState::open);
  settle();
}

void Territory::settle() noexcept {
  if (!protects() || shape_.keeps_protected) return;
  // Pages of open units may be protected, too, after a cut that was given up.
  const std::size_t units = std::max(units_, armed_units_);
  if (units != 0) static_cast<void>(make_writable({0, units}));
}

void Territory::end_save() noexcept {
  save_.store(nullptr, std::memory_order_seq_cst);
  region_.quiesce();  // handlers that have read it
}

std::size_t Territory::unit_of(const std::byte* page) const noexcept PAGETRAP_SIGNAL_SAFE {
  return static_cast<std::size_t>(page - region_.data()) / shape_.unit_bytes;
}

PageRange Territory::unit_range(std::size_t first, std::size_t count) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::size_t begin = first * shape_.unit_bytes;
  const std::size_t end = std::min(region_.size_bytes(), begin + count * shape_.unit_bytes);
  return {region_.data() + begin, pages_for(end - begin)};
}

bool Territory::claim(std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE {
  UnitState pending = UnitState::pending;
  return states_[unit].compare_exchange_strong(pending, UnitState::claimed,
                                               std::memory_order_acq_rel);
}

void Territory::unclaim(std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE {
  states_[unit].store(UnitState::pending, std::memory_order_release);
}

void Territory::set_states(std::size_t first, std::size_t count, UnitState state) noexcept
    PAGETRAP_SIGNAL_SAFE {
  for (std::size_t unit = first; unit < first + count; ++unit)
    states_[unit].store(state, std::memory_order_seq_cst);
}

// RACE a thread that faults now: until the states change it waits, and is woken after. A handler
// that reads the new state finds the pages there, or pages that nobody ever wrote, and fills those.
// So where pages come back with it, they come first, then the states, then the wake-ups.
Result<Done> Territory::close(std::size_t first, std::size_t count) noexcept PAGETRAP_SIGNAL_SAFE {
  if (protects()) {
    for (std::size_t unit = first; unit < first + count;) {
      const bool stays = stays_protected(unit);
      std::size_t end = unit + 1;
      while (end < first + count && stays_protected(end) == stays) ++end;
      // RACE open in name first: a thread that faults in between opens its unit itself.
      set_states(unit, end - unit, stays ? UnitState::clean : UnitState::open);
      // What is refused is opened when it is touched.
      if (!stays) static_cast<void>(method_->release(unit_range(unit, end - unit)));
      unit = end;
    }
    wake_waiters();
    return Done{};
  }
  const PageRange range = unit_range(first, count);
  if (const auto released = method_->release(range); !released) return released;
  set_states(first, count, UnitState::open);
  wake(range);
  return Done{};
}

// --- pieces

PageRange Territory::piece_range(std::size_t piece) const noexcept PAGETRAP_SIGNAL_SAFE {
  std::byte* const base = away_.base + piece * kPieceBytes;
  return {base, piece + 1 == pieces_ ? pages_for(static_cast<std::size_t>(away_.end() - base))
                                     : pages_for(kPieceBytes)};
}

bool Territory::is_away(const std::byte* page, std::size_t& piece) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (pieces_ == 0 || !away_.contains(page)) return false;
  piece = std::min(pieces_ - 1, static_cast<std::size_t>(page - region_.data()) / kPieceBytes);
  return piece_state(piece) != PieceState::back;
}

Result<bool> Territory::bring_back(std::size_t piece) noexcept PAGETRAP_SIGNAL_SAFE {
  // One at a time: while tables move, whoever else tries is refused, and would try again and again
  // on the processor that the first one's event has to be read on (stops of 12 ms were seen).
  if (moving_.exchange(true, std::memory_order_acquire)) return false;
  PieceState away = PieceState::away;
  if (!piece_states_[piece].compare_exchange_strong(away, PieceState::claimed)) {
    moving_.store(false, std::memory_order_release);
    return false;
  }
  const PageRange range = piece_range(piece);
  const auto rights = method_->bring_back(range);
  moving_.store(false, std::memory_order_release);
  if (!rights) {
    piece_states_[piece].store(PieceState::away, std::memory_order_seq_cst);
    return rights.error();
  }
  // The save has failed long since. What is closed from now on is open: it would be taken for
  // protected at the next cut.
  if (*rights == Access::read_write) unprotected_.store(true, std::memory_order_seq_cst);
  piece_states_[piece].store(PieceState::back, std::memory_order_seq_cst);
  wake_waiters();
  return true;
}

// --- waiting

void Territory::wake(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  releases_.fetch_add(1, std::memory_order_seq_cst);
  sys::futex_wake_all(releases_);
  // It can fail only for a range that is not the region's.
  static_cast<void>(region_.wake(range));
}

std::uint32_t Territory::say_that_we_wait() noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint32_t seen = releases_.load(std::memory_order_seq_cst);
  waiting_.store(true, std::memory_order_seq_cst);
  return seen;
}

// RACE a thread says that it waits, then looks at the state once more; this comes after the state
// has changed. All are in one order: either it sees the new state, or this sees that it waits. All
// that wait are woken, and say so again if it was not for them.
void Territory::wake_waiters() noexcept PAGETRAP_SIGNAL_SAFE {
  if (waiting_.load(std::memory_order_seq_cst) && waiting_.exchange(false)) wake(region_.range());
}

void Territory::abandon_in_child() noexcept {
  save_.store(nullptr);
  moving_.store(false);  // by a thread that is not here
  for (std::size_t unit = 0; unit < units_; ++unit) {
    std::size_t piece = 0;
    const PageRange range = unit_range(unit, 1);
    if (protects() && state(unit) != UnitState::open && !is_away(range.base, piece))
      static_cast<void>(method_->release(range));
  }
  // What is refused stays in the window, where faults find it.
  static_cast<void>(method_->finish());
  pieces_ = 0;
  set_states(0, units_, UnitState::open);
  if (units_ != 0) wake(region_.range());
}

void Territory::begin_lazy(LazyLoad& load) noexcept { lazy_.store(&load); }

void Territory::end_lazy() noexcept {
  lazy_.store(nullptr, std::memory_order_seq_cst);
  region_.quiesce();
}

// --- faults

Verdict Territory::on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  auto& territory = *static_cast<Territory*>(self);
  if (fault.context == nullptr || territory.cut() == Cut::protection_key)
    return territory.answer(fault);
  // RACE a cut waits for handlers that have begun. A signal's handler that interrupted this one and
  // touched the heap would wait for the cut. (A freeze needs its own signal to come through.)
  sys::AllSignalsBlocked no_handlers(sys::AllSignalsBlocked::But::faults);
  no_handlers.leave_to_sigreturn();
  return territory.answer(fault);
}

Verdict Territory::answer(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  if (Save* const save = save_.load(std::memory_order_seq_cst)) return during_save(*save, fault);
  if (LazyLoad* const load = lazy_.load(std::memory_order_seq_cst)) return load->on_fault(fault);
  return before_the_cut(fault);
}

Verdict Territory::before_the_cut(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t unit = unit_of(fault.page.base);
  const UnitState now = state(unit);
  if (now == UnitState::clean || now == UnitState::armed)
    return reopen(protected_around(unit, now, fault), fault);
  return serve(fault);
}

// Nothing of a save is at this page: a page nobody ever wrote, or one that was opened meanwhile.
Verdict Territory::serve(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t unit = unit_of(fault.page.base);
  if (fault.kind == FaultKind::write_protected) {
    // RACE whoever opened the unit may have been refused because tables were moving.
    if (protects()) return make_writable({unit, 1}) ? Verdict::resolved : Verdict::not_mine;
    return region_.unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
  }
  // Some at once: a unit begins and ends where this does.
  const std::size_t offset =
      static_cast<std::size_t>(fault.page.base - region_.data()) & ~(kFreshBytes - 1);
  const std::size_t length = std::min(kFreshBytes, region_.size_bytes() - offset);
  const PageRange range{region_.data() + offset, pages_for(length)};
  const bool supplied = bool(region_.supply(range, nullptr, Supply::zero));
  set_open(unit);  // see make_writable(): pages that can be written have come
  return supplied ? Verdict::resolved : Verdict::not_mine;
}

// RACE with the cut: open in name first, so that a cut that comes then takes the units; and it
// waits until this handler has ended (begin_save). RACE with what protects ahead of a cut, which
// does not wait: it may arm a unit, and protect it, between the two steps here, and the second
// opens it. So open in name once more, after it: open and protected is mended by any fault, armed
// and writable is a page that changes after the cut (three such pages were found in an image).
bool Territory::make_writable(UnitRun run) noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::size_t unit = run.first; unit < run.first + run.count; ++unit) set_open(unit);
  const bool opened = bool(region_.unprotect(unit_range(run.first, run.count)));
  for (std::size_t unit = run.first; unit < run.first + run.count; ++unit) set_open(unit);
  return opened;
}

// What is opened with `unit` at once, if it can be.
UnitRun Territory::around(std::size_t unit, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t most = std::max<std::size_t>(1, kStrideBytes / shape_.unit_bytes);
  const std::size_t count = strides_.units(fault.thread, most);
  const std::size_t first = unit & ~(count - 1);
  return {first, std::min(first + count, unit_count_) - first};
}

// `unit` and its neighbours that are in the same state.
UnitRun Territory::protected_around(std::size_t unit, UnitState now, const Fault& fault) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const UnitRun most = around(unit, fault);
  UnitRun run{unit, 1};
  while (run.first > most.first && state(run.first - 1) == now) {
    --run.first;
    ++run.count;
  }
  while (run.first + run.count < most.first + most.count && state(run.first + run.count) == now)
    ++run.count;
  return run;
}

// Of a unit that is being saved the state stays.
void Territory::set_open(std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE {
  for (const UnitState before : {UnitState::clean, UnitState::armed}) {
    UnitState expected = before;
    if (states_[unit].compare_exchange_strong(expected, UnitState::open)) return;
  }
}

// The first write since the last image, or since they were copied.
Verdict Territory::reopen(UnitRun run, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  if (!make_writable(run)) return Verdict::not_mine;
  strides_.served(fault.thread);
  return fault.kind == FaultKind::write_protected ? Verdict::resolved : serve(fault);
}

// The page's tables are away. Whoever brings them back, the access runs again: it may be a read.
Verdict Territory::fetch(Save& save, std::size_t piece, bool in_thread) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (in_thread && save.bring_back(*this, piece)) return Verdict::resolved;
  const std::uint32_t seen = say_that_we_wait();
  if (piece_state(piece) == PieceState::back) return Verdict::retry;
  save.want_piece(*this, piece);
  if (in_thread) sys::futex_wait(releases_, seen);
  return Verdict::resolved;  // from a handler thread: the thread sleeps until it is woken
}

// The page is open now, if it is there.
Verdict Territory::resolved_by_copy(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  strides_.served(fault.thread);
  const bool is_hole = protects() && fault.kind == FaultKind::missing;
  return is_hole ? serve(fault) : Verdict::resolved;
}

Verdict Territory::during_save(Save& save, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  const bool in_thread = fault.context != nullptr;
  // Nobody goes on before the last region is cut: see docs/design/checkpoint.md, "Exactly".
  if (!save.wait_for_cut(*this, in_thread)) {
    // A signal came between the fault and the handler that blocks them: the cut waits for the fault
    // that it interrupted, so this access is before it.
    const UnitState now = state(unit_of(fault.page.base));
    const bool is_before = in_thread && sys::this_thread().handler_depth > 1 &&
                           now != UnitState::pending && now != UnitState::claimed;
    return is_before ? before_the_cut(fault) : Verdict::retry;
  }
  save.count_fault();
  if (std::size_t piece = 0; is_away(fault.page.base, piece)) return fetch(save, piece, in_thread);
  if (!extent_.contains(fault.page.base)) return serve(fault);
  const std::size_t unit = unit_of(fault.page.base);
  for (;;) {
    const UnitState now = state(unit);
    if (now == UnitState::open) return serve(fault);
    if (now == UnitState::clean) return reopen(protected_around(unit, now, fault), fault);
    if (now == UnitState::pending && (in_thread || protects())) {
      const UnitRun copied = save.copy_in_fault(*this, unit, around(unit, fault));
      // Not retry: in a frozen region that would wait for the thaw of all of it.
      if (copied.count != 0) return keeps_ ? reopen(copied, fault) : resolved_by_copy(fault);
    }
    // A hole, or a page that the program dropped after the cut. Whoever copies the unit may be the
    // one that touches it.
    if (now == UnitState::claimed && protects() && fault.kind == FaultKind::missing)
      return region_.supply(fault.page, nullptr, Supply::zero, Access::read) ? Verdict::resolved
                                                                             : Verdict::not_mine;
    const std::uint32_t seen = say_that_we_wait();
    if (state(unit) == UnitState::open || state(unit) == UnitState::clean) continue;
    save.want(*this, unit);
    if (!in_thread) return Verdict::resolved;  // the thread sleeps until it is woken
    sys::futex_wait(releases_, seen);
  }
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
