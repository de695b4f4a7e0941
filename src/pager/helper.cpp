#include "pager/helper.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <system_error>

#include "pager/engine.hpp"
#include "pager/fill.hpp"
#include "pager/gate.hpp"
#include "pager/paged_region.hpp"
#include "sys/company.hpp"
#include "sys/relax.hpp"
#include "vm/no_signals.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

Result<Done> Helper::start() {
  // As handler threads do: it takes no signals of the program's.
  const NoSignals none;
  int error = 0;
  try {
    thread_ = std::thread([this] { serve(); });
    running_.store(true);
  } catch (const std::system_error& refused) {
    error = refused.code().value();
  }
  if (error != 0) return Error{"pthread_create of a pager's helper", error};
  return Done{};
}

void Helper::stop() noexcept {
  if (!running_.exchange(false)) return;
  stopping_.store(true);
  wake();
  thread_.join();
}

// The std::thread names a thread that does not exist here: see Channel::replace_in_child.
void Helper::in_child() noexcept {
  running_.store(false);
  new (&thread_) std::thread;
  count_ = 0;
  run_end_.store(0);
  current_.store(nullptr);
}

// RACE the thread looks for work, finds none and goes to sleep: the bell's number, read before the
// look, has changed then, and the futex returns at once.
void Helper::wake() noexcept PAGETRAP_SIGNAL_SAFE {
  bell_.fetch_add(1, std::memory_order_seq_cst);
  if (sleeping_.load(std::memory_order_seq_cst) != 0) sys::futex_wake_all(bell_);
}

bool Helper::ask(PagedRegion& region, std::uint64_t first, std::size_t count) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (!running()) return false;
  {
    const Locked locked(lock_);
    if (count_ == kRequests) return false;
    requests_[(first_ + count_++) % kRequests] = {&region, first, count};
  }
  wake();
  return true;
}

void Helper::look_at_victims(std::size_t gone) noexcept PAGETRAP_SIGNAL_SAFE {
  constexpr std::size_t kWorthIt = kLookAhead / 4;  // pages, for a wake-up of 7 us
  if (!running()) return;
  const std::size_t before = gone_.fetch_add(gone, std::memory_order_relaxed);
  if ((before + gone) / kWorthIt == before / kWorthIt || victims_left_.exchange(true)) return;
  wake();
}

void Helper::forget(PagedRegion& region) noexcept {
  {
    const Inside inside;
    const Locked locked(lock_);
    for (std::size_t i = 0; i < count_; ++i) {
      Request& request = requests_[(first_ + i) % kRequests];
      if (request.region == &region) request.region = nullptr;
    }
    // RACE with the taking of a request, which clears it: both are under the lock.
    if (current_.load() == &region) given_up_.store(true);
  }
  settle(region);
}

void Helper::settle(const PagedRegion& region) const noexcept {
  while (current_.load() == &region) sys::yield();
}

// A hint: when it is read, the run may be another's.
std::uint64_t Helper::end_of_run(const PagedRegion& region, std::uint64_t index) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (current_.load() != &region || index < run_first_.load()) return 0;
  const std::uint64_t end = run_end_.load();
  return index < end ? end : 0;
}

bool Helper::fill_next() noexcept {
  Request request;
  {
    const Inside inside;
    const Locked locked(lock_);
    if (count_ == 0) return false;
    request = requests_[first_];
    first_ = (first_ + 1) % kRequests;
    --count_;
    current_.store(request.region);
    given_up_.store(false);
  }
  if (request.region == nullptr) return true;  // its region has ended
  request.region->source.prefetch(request.first, request.count);
  run_first_.store(request.first);
  run_end_.store(std::min<std::uint64_t>(request.first + request.count, request.region->length));
  const std::size_t filled =
      fill_ahead(*request.region, request.first, request.count, true, &given_up_);
  run_end_.store(0);
  count(request.region->tally.prefetched, filled);
  current_.store(nullptr);
  return true;
}

// RACE the frame's page may have gone before it is copied: its region is kept from ending by
// current_, which is set under the lock that the frame's region is read under.
void Helper::prepare_some() noexcept {
  std::array<FrameId, kLookAhead> next;
  const auto page = std::make_unique<std::byte[]>(2 * page_size());
  const auto aligned = (reinterpret_cast<std::uintptr_t>(page.get()) + page_size() - 1) &
                       ~(std::uintptr_t{page_size()} - 1);
  auto* const copy = reinterpret_cast<std::byte*>(aligned);
  for (Pool& pool : engine_.pools) {
    std::size_t found = 0;
    {
      const Inside inside;
      found = engine_.unprepared(pool, next);
    }
    for (std::size_t i = 0; i < found && !stopping_.load(); ++i) {
      std::uint64_t index = 0;
      PagedRegion* region = nullptr;
      {
        const Inside inside;
        const Locked locked(engine_.lock);
        Frame& frame = engine_.frames[next[i]];
        region = frame.region;
        if (region == nullptr || !region->traits.prepares || frame.prepared.exchange(true))
          continue;
        index = frame.index;
        current_.store(region);
      }
      if (region->copy_out(index, copy)) {
        const PageRef snapshot{index, copy};
        const Inside inside;  // a fork() finds no call of a source half done
        region->source.prepare(std::span(&snapshot, 1));
        engine_.count_source_bytes(region->source_bytes, region->source.memory_bytes());
      }
      current_.store(nullptr);
      if (fill_next()) continue;
    }
  }
}

// Who reads in order asks again within some 50 us, and a wake-up costs him 7 us and the helper 20.
bool Helper::is_rung_soon(std::uint32_t rung) const noexcept {
  for (unsigned looks = 0; looks < looks_before_sleep_; ++looks) {
    if (bell_.load(std::memory_order_relaxed) != rung) return true;
    sys::relax();
  }
  return false;
}

void Helper::serve() noexcept {
  const sys::OwnThread own;
  looks_before_sleep_ = std::thread::hardware_concurrency() > 1 ? 1000 : 0;  // 50 us
  while (!stopping_.load()) {
    const std::uint32_t rung = bell_.load(std::memory_order_seq_cst);
    bool filled = false;
    while (fill_next()) filled = true;
    if (victims_left_.exchange(false)) {
      prepare_some();
      continue;
    }
    if (filled && is_rung_soon(rung)) continue;
    sleeping_.store(1, std::memory_order_seq_cst);
    sys::futex_wait(bell_, rung);
    sleeping_.store(0, std::memory_order_seq_cst);
  }
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
