#include "checkpoint/save.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <new>
#include <system_error>

#include <pagetrap/vm/freeze.hpp>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

constexpr std::size_t kBatch = 64;                 // units that a worker takes on at once
constexpr std::uint64_t kLookAround = 20'000'000;  // ns, for workers with nothing to do
constexpr unsigned kWishPart = 48;

std::size_t worker_buffer() noexcept { return bytes(Pages{kMaxBlockPages}); }

}  // namespace

Save::Save(std::vector<Part> parts, Settings settings, ImageWriter& writer)
    : parts_(std::move(parts)), settings_(std::move(settings)), writer_(writer) {}

Save::~Save() {
  if (is_cut_) static_cast<void>(give_back());
  join_workers();
}

Result<Done> Save::prepare() {
  // The slow cuts first: they stop writers only.
  for (std::size_t i = 0; i < parts_.size(); ++i)
    if (parts_[i].territory->cut() == Cut::write_protect) order_.push_back(i);
  for (std::size_t i = 0; i < parts_.size(); ++i)
    if (parts_[i].territory->cut() != Cut::write_protect) order_.push_back(i);
  std::size_t unit = bytes(Pages{1});
  for (const Part& part : parts_) unit = std::max(unit, part.territory->unit_bytes());
  const std::size_t own = settings_.threads * worker_buffer();
  const std::size_t rest = settings_.extra_memory > own ? settings_.extra_memory - own : 0;
  auto buffers = BufferPool::create(settings_.threads, worker_buffer());
  if (!buffers) return buffers.error();
  own_buffers_.emplace(std::move(*buffers));
  auto pool = BufferPool::create(std::max<std::size_t>(1, rest / unit), unit);
  if (!pool) return pool.error();
  pool_.emplace(std::move(*pool));
  // The program's signals are for its own threads; broadcasts must reach all.
  sigset_t blocked;
  sigset_t old;
  ::sigfillset(&blocked);
  for (const int taken : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, freeze_signal()})
    ::sigdelset(&blocked, taken);
  ::pthread_sigmask(SIG_SETMASK, &blocked, &old);
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
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  return outcome;
}

void Save::set_phase(Phase phase) noexcept {
  phase_.store(static_cast<std::uint32_t>(phase), std::memory_order_seq_cst);
  sys::futex_wake_all(phase_);
}

Result<Done> Save::cut(double& frozen_us) {
  set_phase(Phase::cutting);
  std::size_t units = 0;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    parts_[i].territory->begin_save(*this, static_cast<std::uint32_t>(i), parts_[i].length);
    units += parts_[i].territory->units();
  }
  open_units_.store(units, std::memory_order_release);
  const std::uint64_t started = sys::monotonic_nanoseconds();
  std::size_t taken = 0;
  for (const std::size_t i : order_) {
    Territory& territory = *parts_[i].territory;
    if (territory.units() != 0) {
      if (const auto done = territory.method().take(territory.extent()); !done) {
        undo(taken);
        return done;
      }
    }
    territory.set_taken();
    if (settings_.dawdle_us != 0) ::usleep(settings_.dawdle_us);
    ++taken;
  }
  frozen_us = static_cast<double>(sys::monotonic_nanoseconds() - started) / 1e3;
  is_cut_ = true;
  set_phase(Phase::saving);
  return Done{};
}

// The first `taken` cuts, in their order, are given back: nobody has seen them.
void Save::undo(std::size_t taken) noexcept {
  for (std::size_t k = 0; k < taken; ++k) {
    Territory& earlier = *parts_[order_[k]].territory;
    if (earlier.units() == 0) continue;
    static_cast<void>(earlier.method().release(earlier.extent()));
    static_cast<void>(earlier.method().finish());
  }
  set_phase(Phase::over);
  for (const Part& part : parts_) {
    part.territory->open_all();
    part.territory->end_save();
  }
}

Result<Done> Save::give_back() noexcept {
  join_workers();
  is_cut_ = false;
  Result<Done> finished = Done{};
  for (const Part& part : parts_) {
    if (part.territory->units() == 0) continue;
    if (const auto done = part.territory->method().finish(); !done) finished = done;
  }
  for (const Part& part : parts_) part.territory->end_save();
  set_phase(Phase::over);
  return finished;
}

Result<Done> Save::finish(Statistics& statistics) {
  const auto finished = give_back();
  statistics.faults = faults_.load();
  statistics.waits_for_memory = waits_.load();
  statistics.pages_scanned = pages_scanned_.load();
  statistics.pages_skipped_parent = pages_scanned_.load() - pages_copied_.load();
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
    if (!may_wait) return false;
    if (settings_.wait_for_all) {
      sys::futex_wait(phase_, now);
    } else {
      sys::yield();
    }
  }
}

bool Save::copy_in_fault(Territory& territory, std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE {
  Buffer* const buffer = pool_->take();
  if (buffer == nullptr) {
    waits_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  if (!territory.claim(unit)) {
    pool_->give_back(*buffer);
    return false;
  }
  if (const auto copied = copy_unit(territory, unit, *buffer); !copied) fail(copied.error());
  const auto released = territory.release(unit, 1);
  if (!released) {
    fail(released.error());
    territory.unclaim(unit);  // a worker tries again
  }
  if (buffer->used != 0) {
    pool_->push_filled(*buffer);
  } else {
    pool_->give_back(*buffer);
  }
  if (released) closed(1);
  event();
  return bool(released);
}

void Save::want(Territory& territory, std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t wish = std::uint64_t{territory.index() + 1} << kWishPart | unit;
  for (auto& slot : wishes_) {
    std::uint64_t known = slot.load(std::memory_order_relaxed);
    if (known == wish) return;
    if (known == 0 && slot.compare_exchange_strong(known, wish, std::memory_order_acq_rel)) break;
  }
  // All taken: its turn comes anyway.
  event();
}

void Save::event() noexcept PAGETRAP_SIGNAL_SAFE {
  events_.fetch_add(1, std::memory_order_seq_cst);
  sys::futex_wake_all(events_);
}

void Save::closed(std::size_t units) noexcept PAGETRAP_SIGNAL_SAFE {
  if (open_units_.fetch_sub(units, std::memory_order_seq_cst) == units) event();
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
    const auto found =
        territory.method().pages(piece, parts_[territory.index()].written_only, runs);
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
  pages_scanned_.fetch_add(range.length.count(), std::memory_order_relaxed);
  pages_copied_.fetch_add(copied, std::memory_order_relaxed);
  return Done{};
}

void Save::add(Buffer& buffer) {
  if (buffer.used != 0 && !failed()) {
    try {
      const auto added =
          writer_.add(std::span(buffer.runs).first(buffer.run_count), {buffer.data, buffer.used});
      if (!added) fail(added.error());
      if (settings_.progress) {
        std::uint64_t total = 0;
        for (const Part& part : parts_) total += part.length;
        const std::lock_guard one_at_a_time(progress_lock_);
        if (!settings_.progress(bytes(Pages{pages_scanned_.load()}), total))
          fail(Error{"checkpoint", ECANCELED});
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
      const auto released = territory.release(first, end - first);
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
    const bool wished = std::any_of(wishes_.begin(), wishes_.end(), [](const auto& wish) {
      return wish.load(std::memory_order_relaxed) != 0;
    });
    if (wished || pool_->any_filled()) {
      flush(territory, begin, unit + 1, buffer);
      begin = unit + 1;
      while (serve_wish(buffer)) {
      }
    }
  }
  flush(territory, begin, end, buffer);
}

// In turns: a thread that wishes again at once gets the first free slot, and would always be served
// before those behind it (a stop of 155 ms was seen).
bool Save::serve_wish(Buffer& buffer) {
  const std::size_t first = next_wish_.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < wishes_.size(); ++i) {
    const std::size_t index = (first + i) % wishes_.size();
    if (wishes_[index].load(std::memory_order_relaxed) == 0) continue;
    const std::uint64_t wish = wishes_[index].exchange(0, std::memory_order_acq_rel);
    if (wish == 0) continue;
    next_wish_.store(index + 1, std::memory_order_relaxed);
    Territory& territory = *parts_[(wish >> kWishPart) - 1].territory;
    const std::size_t unit = wish & ((std::uint64_t{1} << kWishPart) - 1);
    if (!territory.claim(unit)) continue;
    if (const auto copied = copy_unit(territory, unit, buffer); !copied) fail(copied.error());
    flush(territory, unit, unit + 1, buffer);
    return true;
  }
  return false;
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
  if (Buffer* const filled = pool_->pop_filled()) {
    add(*filled);
    pool_->give_back(*filled);
    return true;
  }
  return serve_wish(buffer) || next_stretch(buffer);
}

void Save::work(Buffer& buffer) noexcept {
  for (;;) {
    const std::uint32_t now = phase_.load(std::memory_order_seq_cst);
    if (now == static_cast<std::uint32_t>(Phase::over)) return;
    if (now == static_cast<std::uint32_t>(Phase::saving)) break;
    sys::futex_wait(phase_, now);
  }
  for (;;) {
    const std::uint32_t seen = events_.load(std::memory_order_seq_cst);
    if (work_once(buffer)) continue;
    if (open_units_.load(std::memory_order_seq_cst) == 0 && !pool_->any_filled()) return;
    sys::futex_wait(events_, seen, kLookAround);
  }
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
