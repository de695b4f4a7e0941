#include "checkpoint/save.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <new>
#include <system_error>

#include "checkpoint/checkpointer.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/time_slice.hpp"
#include "vm/no_signals.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

constexpr std::size_t kBatch = 8;                            // units a worker takes on at once
constexpr std::size_t kPoolBuffer = std::size_t{256} << 10;  // at least a unit
constexpr std::size_t kReady = std::size_t{16} << 20;  // bytes of buffers, committed before the cut
constexpr unsigned kRest = 100;                        // us
constexpr std::uint64_t kLookAround = 20'000'000;      // ns, for workers with nothing to do

// Small enough that what has been copied is still in the cache when it is hashed.
constexpr std::size_t kWorkerBuffer = std::size_t{512} << 10;

}  // namespace

Save::Save(std::vector<Part> parts, Settings settings, ImageWriter& writer)
    : parts_(std::move(parts)), settings_(std::move(settings)), writer_(writer) {}

Save::~Save() { end(); }

void Save::end() noexcept {
  if (is_cut_) static_cast<void>(give_back());
  join_workers();
}

Result<Done> Save::prepare() {
  // The slow cuts first: they stop writers only.
  for (std::size_t i = 0; i < parts_.size(); ++i)
    if (parts_[i].territory->cut() == Cut::write_protect) order_.push_back(i);
  for (std::size_t i = 0; i < parts_.size(); ++i)
    if (parts_[i].territory->cut() != Cut::write_protect) order_.push_back(i);
  std::size_t unit = kPoolBuffer;
  for (const Part& part : parts_) unit = std::max(unit, part.territory->unit_bytes());
  const std::size_t own_buffer = std::max(unit, kWorkerBuffer);
  const std::size_t own = settings_.threads * own_buffer;
  const std::size_t rest = settings_.extra_memory > own ? settings_.extra_memory - own : 0;
  auto buffers = BufferPool::create(settings_.threads, own_buffer);
  if (!buffers) return buffers.error();
  own_buffers_.emplace(std::move(*buffers));
  auto pool = BufferPool::create(std::max<std::size_t>(1, rest / unit), unit);
  if (!pool) return pool.error();
  pool_.emplace(std::move(*pool));
  own_buffers_->make_ready(own);
  pool_->make_ready(kReady);
  const NoSignals none;
  Result<Done> outcome = Done{};
  try {
    while (workers_.size() < settings_.threads) {
      Buffer* const buffer = own_buffers_->take();
      workers_.emplace_back([this, buffer] { work(*buffer); });
    }
  } catch (const std::system_error& refused) {
    outcome = Error{"pthread_create of a thread that saves", refused.code().value()};
  } catch (const std::bad_alloc&) {
    outcome = Error{"Checkpointer: threads that save", ENOMEM};
  }
  // A thread that begins may need malloc (sanitizers, thread-locals), whose lock a signal's handler
  // that waits for a page to be saved may hold.
  for (std::uint32_t begun = 0; (begun = begun_.load(std::memory_order_acquire)) < workers_.size();)
    sys::futex_wait(begun_, begun);
  return outcome;
}

void Save::set_phase(Phase phase) noexcept {
  phase_.store(static_cast<std::uint32_t>(phase), std::memory_order_seq_cst);
  sys::futex_wake_all(phase_);
}

void Save::protect_ahead() noexcept {
  for (const Part& part : parts_) part.territory->protect_ahead(part.length);
  // This thread has had the processor for long: where others want it, it would lose it in the
  // middle of the cut, for a turn of 4 ms. It comes back with a turn of its own.
  ::usleep(kRest);
}

Result<Done> Save::cut(const Lengths& length, double& frozen_us) {
  // A signal's handler in this thread that touched the heap would wait for the cut, and so for
  // itself.
  const sys::AllSignalsBlocked no_handlers(sys::AllSignalsBlocked::But::faults);
  set_phase(Phase::gathering);
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    Territory& territory = *parts_[i].territory;
    parts_[i].length = length(i);
    if (const auto begun =
            territory.begin_save(*this, static_cast<std::uint32_t>(i), parts_[i].length,
                                 parts_[i].written_only, settings_.can_be_parent);
        !begun) {
      undo(i + 1);
      return begun;
    }
    left_.fetch_add(territory.pending_units(), std::memory_order_relaxed);
  }
  set_phase(Phase::cutting);
  const std::uint64_t started = sys::monotonic_nanoseconds();
  for (const std::size_t i : order_) {
    if (const auto done = parts_[i].territory->take(); !done) {
      undo(parts_.size());
      return done;
    }
    left_.fetch_add(parts_[i].territory->pieces(), std::memory_order_relaxed);
    if (settings_.dawdle_us != 0) ::usleep(settings_.dawdle_us);
  }
  frozen_us = static_cast<double>(sys::monotonic_nanoseconds() - started) / 1e3;
  is_cut_ = true;
  set_phase(Phase::saving);
  return Done{};
}

// The first `begun` territories. Those that are cut are given back: nobody has seen them.
void Save::undo(std::size_t begun) noexcept {
  for (std::size_t i = 0; i < begun; ++i) parts_[i].territory->undo();
  set_phase(Phase::over);
  for (std::size_t i = 0; i < begun; ++i) {
    parts_[i].territory->wake_all();
    parts_[i].territory->end_save();
  }
}

Result<Done> Save::give_back() noexcept {
  join_workers();
  is_cut_ = false;
  Result<Done> finished = Done{};
  {
    // A child would have half an end: pages that are back, and a region that is still lifted. (The
    // cut holds the arenas' locks, for which fork() waits as well.)
    const auto no_fork = fork_waits();
    for (const Part& part : parts_) {
      if (part.territory->units() == 0) continue;
      if (const auto done = part.territory->method().finish(); !done) finished = done;
    }
  }
  for (const Part& part : parts_) part.territory->end_save();
  set_phase(Phase::over);
  return finished;
}

Result<Done> Save::finish(Statistics& statistics) {
  const auto finished = give_back();
  statistics.faults = faults_.load();
  statistics.waits_for_memory = waits_.load();
  for (const Part& part : parts_)
    statistics.pages_scanned += part.territory->extent().length.count();
  statistics.pages_skipped_parent =
      statistics.pages_scanned - pages_copied_.load() + pages_unchanged_.load();
  statistics.peak_extra_bytes = pool_->peak_bytes() + own_buffers_->peak_bytes();
  if (failed()) return error_;
  return finished;
}

void Save::join_workers() noexcept {
  if (phase_.load() < static_cast<std::uint32_t>(Phase::saving)) set_phase(Phase::over);
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void Save::abandon_in_child() noexcept {
  // Forgotten, not detached: their stacks may be those of threads that were started here since.
  for (std::thread& worker : workers_) new (&worker) std::thread;
  workers_.clear();
  phase_.store(static_cast<std::uint32_t>(Phase::over));
  for (const Part& part : parts_) part.territory->abandon_in_child();
}

// --- faulting threads

bool Save::wait_for_cut(const Territory& territory, bool may_wait) noexcept PAGETRAP_SIGNAL_SAFE {
  for (;;) {
    const std::uint32_t now = phase_.load(std::memory_order_seq_cst);
    if (now >= static_cast<std::uint32_t>(Phase::saving)) return true;
    if (!settings_.wait_for_all && territory.taken()) return true;
    // RACE both begin_save() and a lift wait for handlers: until that is over none may wait for
    // them. Not so a freeze, after which a thread that tries again would wait for all of the thaw.
    const bool is_waited_for = now < static_cast<std::uint32_t>(Phase::cutting) ||
                               (territory.cut() != Cut::protection_key && !territory.taken());
    if (!may_wait || is_waited_for) return false;
    if (settings_.wait_for_all) {
      sys::futex_wait(phase_, now);
    } else {
      sys::yield();
    }
  }
}

bool Save::bring_back(Territory& territory, std::size_t piece) noexcept PAGETRAP_SIGNAL_SAFE {
  // A signal's handler that touched another piece would wait for this thread.
  const sys::AllSignalsBlocked no_handlers(sys::AllSignalsBlocked::But::faults);
  const auto brought = territory.bring_back(piece);
  if (!brought) fail(brought.error());
  if (!brought || !*brought) return false;
  closed(1);
  return true;
}

void Save::want_piece(Territory& territory, std::size_t piece) noexcept PAGETRAP_SIGNAL_SAFE {
  piece_wishes_.add({territory.index(), piece});
  event();
}

UnitRun Save::copy_in_fault(Territory& territory, std::size_t unit, UnitRun most) noexcept
    PAGETRAP_SIGNAL_SAFE {
  // A signal's handler that touched a claimed unit would wait for this thread.
  const sys::AllSignalsBlocked no_handlers(sys::AllSignalsBlocked::But::faults);
  Buffer* const buffer = pool_->take();
  if (buffer == nullptr) {
    waits_.fetch_add(1, std::memory_order_relaxed);
    return {};
  }
  if (!territory.claim(unit)) {
    pool_->give_back(*buffer);
    return {};
  }
  UnitRun run{unit, 1};
  while (run.first > most.first && territory.claim(run.first - 1)) {
    --run.first;
    ++run.count;
  }
  while (run.first + run.count < most.first + most.count && territory.claim(run.first + run.count))
    ++run.count;
  for (std::size_t i = run.first; i < run.first + run.count; ++i)
    if (const auto copied = copy_unit(territory, i, *buffer); !copied) fail(copied.error());
  const auto closed_them = territory.close(run.first, run.count);
  if (!closed_them) {
    fail(closed_them.error());
    for (std::size_t i = run.first; i < run.first + run.count; ++i)
      territory.unclaim(i);  // a worker tries again
  }
  if (buffer->used != 0) {
    pool_->push_filled(*buffer);
  } else {
    pool_->give_back(*buffer);
  }
  if (closed_them) closed(run.count);
  event();
  return closed_them ? run : UnitRun{};
}

void Save::want(Territory& territory, std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE {
  wishes_.add({territory.index(), unit});
  event();
}

void Save::event() noexcept PAGETRAP_SIGNAL_SAFE {
  events_.fetch_add(1, std::memory_order_seq_cst);
  sys::futex_wake_all(events_);
}

void Save::closed(std::size_t units) noexcept PAGETRAP_SIGNAL_SAFE {
  if (left_.fetch_sub(units, std::memory_order_seq_cst) == units) event();
}

void Save::fail(const Error& error) noexcept PAGETRAP_SIGNAL_SAFE {
  std::uint32_t no = 0;
  if (!failed_.compare_exchange_strong(no, 1)) return;  // the first one counts
  error_ = error;
  failed_.store(2, std::memory_order_release);
}

// --- workers

Result<Done> Save::copy_unit(Territory& territory, std::size_t unit, Buffer& buffer) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (failed()) return Done{};
  const PageRange range = territory.unit_range(unit, 1);
  std::array<PageRange, 64> runs;
  std::size_t copied = 0;
  // In pieces whose runs are sure to fit.
  for (std::byte* next = range.base; next < range.end();) {
    const auto rest = static_cast<std::size_t>(range.end() - next);
    const PageRange piece{next, pages_for(std::min(rest, bytes(Pages{2 * runs.size()})))};
    const auto found = territory.method().pages(piece, territory.asks_for_written(), runs);
    if (!found) return found.error();
    for (const PageRange& run : std::span(runs).first(*found)) {
      const auto first = static_cast<std::size_t>(run.base - territory.extent().base);
      buffer.append({territory.index(), static_cast<std::uint32_t>(run.length.count()),
                     first >> page_shift()},
                    territory.method().source(run.base));
      copied += run.length.count();
    }
    next = piece.end();
  }
  pages_looked_at_.fetch_add(range.length.count(), std::memory_order_relaxed);
  pages_copied_.fetch_add(copied, std::memory_order_relaxed);
  return Done{};
}

// Of units that were written since the parent: the pages that are as they were. Of all units of a
// full image: notes what they are. A unit is whole in one buffer.
void Save::leave_out_unchanged(Buffer& buffer) {
  const auto filled = std::span(buffer.runs).first(buffer.run_count);
  if (std::none_of(filled.begin(), filled.end(),
                   [this](const BlockRun& run) { return parts_[run.region].territory->keeps(); }))
    return;              // nobody compares
  std::size_t kept = 0;  // bytes
  std::size_t from = 0;
  std::array<BlockRun, kMaxBlockPages> runs;
  std::size_t count = 0;
  Territory* last_territory = nullptr;
  std::size_t last_unit = 0;
  bool changed = true;
  const auto end_unit = [&] {
    if (!changed) last_territory->cool(last_unit);
  };
  for (const BlockRun& run : filled) {
    Territory& territory = *parts_[run.region].territory;
    for (std::uint32_t i = 0; i < run.pages; ++i, from += page_size()) {
      const std::uint64_t page = run.first_page + i;
      if (territory.keeps()) {
        if (&territory != last_territory || territory.unit_at(page) != last_unit) {
          end_unit();
          last_territory = &territory;
          last_unit = territory.unit_at(page);
          changed = false;
        }
        const bool same = territory.hashes().is_same(page, {buffer.data + from, page_size()});
        changed |= !same;
        if (same && territory.written_only()) {
          pages_unchanged_.fetch_add(1, std::memory_order_relaxed);
          continue;
        }
      }
      if (kept != from) std::memcpy(buffer.data + kept, buffer.data + from, page_size());
      kept += page_size();
      BlockRun* const last = count != 0 ? &runs[count - 1] : nullptr;
      if (last != nullptr && last->region == run.region && last->first_page + last->pages == page) {
        ++last->pages;
      } else {
        runs[count++] = {run.region, 1, page};
      }
    }
  }
  end_unit();
  buffer.used = kept;
  buffer.run_count = count;
  std::copy_n(runs.begin(), count, buffer.runs.begin());
}

void Save::add(Buffer& buffer) {
  if (buffer.used != 0 && !failed()) leave_out_unchanged(buffer);
  if (buffer.used != 0 && !failed()) {
    try {
      const auto added =
          writer_.add(std::span(buffer.runs).first(buffer.run_count), {buffer.data, buffer.used});
      if (!added) fail(added.error());
      if (settings_.progress) {
        std::uint64_t total = 0;
        for (const Part& part : parts_) total += part.territory->pending_bytes();
        const std::lock_guard one_at_a_time(progress_lock_);
        const std::uint64_t done = bytes(Pages{pages_looked_at_.load()});
        if (!settings_.progress(std::min(done, total), total)) fail(Error{"checkpoint", ECANCELED});
      }
    } catch (const std::bad_alloc&) {
      fail(Error{"checkpoint", ENOMEM, {}, "no memory for the image's index"});
    } catch (...) {
      fail(Error{"checkpoint", ECANCELED, {}, "the progress function threw"});
    }
  }
  buffer.clear();
}

// Units [first, end) are claimed, and copied to `buffer` if they have to be.
void Save::flush(Territory& territory, std::size_t first, std::size_t end, Buffer& buffer) {
  if (end > first) {
    // Refused: the kernel has no memory. The save has failed; threads wait until it works, and
    // nothing is lost.
    for (;;) {
      const auto released = territory.close(first, end - first);
      if (released) break;
      fail(released.error());
      ::usleep(1000);
    }
    closed(end - first);
  }
  add(buffer);
}

void Save::save_units(Territory& territory, std::size_t first, std::size_t end, Buffer& buffer) {
  std::size_t begin = first;  // of the claimed ones
  for (std::size_t unit = first; unit < end; ++unit) {
    if (!territory.claim(unit)) {
      flush(territory, begin, unit, buffer);
      begin = unit + 1;
      continue;
    }
    if (!buffer.has_room_for(territory.unit_range(unit, 1).length)) {
      territory.unclaim(unit);  // writing may take long
      flush(territory, begin, unit, buffer);
      begin = unit;
      --unit;
      continue;
    }
    if (const auto copied = copy_unit(territory, unit, buffer); !copied) fail(copied.error());
    if (wishes_.any() || piece_wishes_.any() || pool_->any_filled()) {
      flush(territory, begin, unit + 1, buffer);
      begin = unit + 1;
      while (serve_piece() || serve_wish(buffer)) {
      }
    }
  }
  flush(territory, begin, end, buffer);
}

bool Save::serve_piece() {
  const auto wish = piece_wishes_.take();
  if (!wish) return false;
  static_cast<void>(bring_back(*parts_[wish->part].territory, wish->number));
  return true;
}

// Before anything is copied: threads wait for pieces, reads too. False: all are back.
bool Save::next_piece() {
  for (const Part& part : parts_) {
    Territory& territory = *part.territory;
    for (std::size_t piece = 0; piece < territory.pieces(); ++piece) {
      if (territory.piece_state(piece) == PieceState::back) continue;
      if (bring_back(territory, piece)) return true;
      // Somebody else moves one, perhaps this: what is in it may not be copied yet. Or it was
      // refused: the save has failed, and threads wait until it works.
      if (failed()) {
        ::usleep(1000);
      } else {
        sys::yield();
      }
      return true;
    }
  }
  return false;
}

bool Save::serve_wish(Buffer& buffer) {
  const auto wish = wishes_.take();
  if (!wish) return false;
  Territory& territory = *parts_[wish->part].territory;
  if (!territory.claim(wish->number)) return true;
  if (const auto copied = copy_unit(territory, wish->number, buffer); !copied) fail(copied.error());
  flush(territory, wish->number, wish->number + 1, buffer);
  return true;
}

bool Save::next_stretch(Buffer& buffer) {
  std::size_t next = cursor_.fetch_add(kBatch, std::memory_order_relaxed);
  std::size_t left = kBatch;
  bool any = false;
  for (const Part& part : parts_) {
    const std::size_t units = part.territory->units();
    if (next >= units) {
      next -= units;
      continue;
    }
    const std::size_t count = std::min(left, units - next);
    save_units(*part.territory, next, next + count, buffer);
    any = true;
    left -= count;
    next = 0;
    if (left == 0) break;
  }
  return any;
}

bool Save::work_once(Buffer& buffer) {
  if (serve_piece() || next_piece()) return true;
  if (Buffer* const filled = pool_->pop_filled()) {
    add(*filled);
    pool_->give_back(*filled);
    return true;
  }
  return serve_wish(buffer) || next_stretch(buffer);
}

void Save::work(Buffer& buffer) noexcept {
  sys::ask_for_short_turns();
  begun_.fetch_add(1, std::memory_order_release);
  sys::futex_wake_all(begun_);
  for (;;) {
    const std::uint32_t now = phase_.load(std::memory_order_seq_cst);
    if (now == static_cast<std::uint32_t>(Phase::over)) return;
    if (now == static_cast<std::uint32_t>(Phase::saving)) break;
    sys::futex_wait(phase_, now);
  }
  for (;;) {
    const std::uint32_t seen = events_.load(std::memory_order_seq_cst);
    if (work_once(buffer)) continue;
    if (left_.load(std::memory_order_seq_cst) == 0 && !pool_->any_filled()) return;
    sys::futex_wait(events_, seen, kLookAround);
  }
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
