// Eviction: a batch of victims, from the policy's hands to the end of their mappings.
//
//   take       policy and page words agree under the lock      resident -> evicting, or leaving
//   stage      contents to where no thread of the program can change them
//   store      Source::write_back
//   part       evicting -> gone, or leaving; or somebody has taken the page back
//   unmap      what is mapped still, in one system call
//   finish     frames and room are free
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "pager/engine.hpp"
#include "pager/gate.hpp"
#include "pager/paged_region.hpp"
#include "sys/company.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

class Eviction {
 public:
  /// `keeps`: pages are stored, and stay, clean from then on.
  explicit Eviction(Engine& engine, bool keeps = false) noexcept PAGETRAP_SIGNAL_SAFE
      : engine_(engine),
        keeps_(keeps),
        taken_(engine.departures),
        batch_(taken_.batch()),
        staged_(batch_.staged) {}

  void take(Pool& pool, std::size_t wanted) noexcept PAGETRAP_SIGNAL_SAFE;
  void take(PagedRegion& region, std::span<const std::uint64_t> pages) noexcept
      PAGETRAP_SIGNAL_SAFE;
  EvictionCount run() noexcept PAGETRAP_SIGNAL_SAFE;

 private:
  [[nodiscard]] std::span<Victim> victims() const noexcept PAGETRAP_SIGNAL_SAFE {
    return std::span(batch_.victims).first(count_);
  }
  bool claim(FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE;
  void sort() noexcept PAGETRAP_SIGNAL_SAFE;
  void stage() noexcept PAGETRAP_SIGNAL_SAFE;
  std::size_t move_run(std::size_t first) noexcept PAGETRAP_SIGNAL_SAFE;
  void copy_in_place(std::size_t which) noexcept PAGETRAP_SIGNAL_SAFE;
  void leave_in_place(Victim& victim) noexcept PAGETRAP_SIGNAL_SAFE;
  void store() noexcept PAGETRAP_SIGNAL_SAFE;
  void store_pages(PagedRegion& region, std::size_t pages) noexcept PAGETRAP_SIGNAL_SAFE;
  void postpone(std::size_t next, std::size_t pages) noexcept PAGETRAP_SIGNAL_SAFE;
  void refuse(Victim& victim, const Error& error) noexcept PAGETRAP_SIGNAL_SAFE;
  void part() noexcept PAGETRAP_SIGNAL_SAFE;
  void unmap() noexcept PAGETRAP_SIGNAL_SAFE;
  void unmap_of(PagedRegion& region, std::size_t first, std::size_t end) noexcept
      PAGETRAP_SIGNAL_SAFE;
  void note(Staging* staging) noexcept PAGETRAP_SIGNAL_SAFE;
  void clear_staging() noexcept PAGETRAP_SIGNAL_SAFE;
  EvictionCount finish() noexcept PAGETRAP_SIGNAL_SAFE;

  Engine& engine_;
  const bool keeps_;
  bool for_a_fault_ = false;  // that wants room, not these pages gone
  bool alone_ = false;  // no other thread of the program can run: pages stay as they are mapped
  const Departures::Taken taken_;
  Batch& batch_;
  std::size_t count_ = 0;
  std::size_t staged_;       // staging pages in use
  std::size_t moved_ = 0;    // of them, by this eviction
  std::size_t changed_ = 0;  // stored, and not as they were before
  std::size_t refused_ = 0;
};

// --- take -------------------------------------------------------------------------------------

// RACE everybody else changes a resident page's word without the lock: pins, first writes. So here
// too it is a compare-and-swap, and what it says of pins and of writes holds from then on: a writer
// of a clean page must get the word from resident to writable before its access goes on.
bool Eviction::claim(FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE {
  Frame& record = engine_.frames[frame];
  PagedRegion& region = *record.region;
  PageSlot& slot = region.slot(record.index);
  PageWord word = slot.load();
  for (;;) {
    if (word.stage() != Stage::resident || (word.pins() != 0 && !keeps_)) return false;
    const bool clean = region.read_only() || (!word.writable() && region.traits.retains_copy);
    if (clean && keeps_) return false;
    record.staged.store(nullptr, std::memory_order_relaxed);
    if (!slot.change(word, word.in(clean ? Stage::leaving : Stage::evicting))) continue;
    Victim& victim = batch_.victims[count_++];
    victim = {frame, &region, region.pool, record.index, word};
    record.in_hand = true;
    return true;
  }
}

void Eviction::take(Pool& pool, std::size_t wanted) noexcept PAGETRAP_SIGNAL_SAFE {
  for_a_fault_ = true;
  wanted = std::min(wanted, kMostAtOnce);
  const Locked locked(engine_.lock);
  if (pool.policy == nullptr) return;
  // Pages in a passing stage come back to their policy: at most once round all of them.
  std::size_t looks = pool.used.load(std::memory_order_relaxed) + 1;
  while (count_ < wanted && looks != 0) {
    const std::size_t got =
        pool.policy->victims(engine_.frames, std::span(batch_.frames).first(wanted - count_));
    if (got == 0) return;
    for (std::size_t i = 0; i < got; ++i) {
      if (!claim(batch_.frames[i]))
        pool.policy->on_event(engine_.frames, batch_.frames[i], FrameEvent::kept);
    }
    looks -= std::min(looks, got);
  }
}

void Eviction::take(PagedRegion& region, std::span<const std::uint64_t> pages) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const Locked locked(engine_.lock);
  for (const std::uint64_t index : pages) {
    const PageWord word = region.slot(index).load();
    if (word.stage() != Stage::resident || word.frame() == kNoFrame) continue;
    if (engine_.frames[word.frame()].in_hand) continue;
    region.pool->policy->on_event(engine_.frames, word.frame(), FrameEvent::gone);
    if (!claim(word.frame()) && word.pins() == 0)
      region.pool->policy->on_event(engine_.frames, word.frame(), FrameEvent::kept);
  }
}

// By region and address: neighbours are moved and unmapped together. Insertion: nearly sorted where
// it matters, 64 at most.
void Eviction::sort() noexcept PAGETRAP_SIGNAL_SAFE {
  const auto before = [](const Victim& a, const Victim& b) noexcept PAGETRAP_SIGNAL_SAFE {
    return a.region != b.region ? a.region < b.region : a.index < b.index;
  };
  for (std::size_t i = 1; i < count_; ++i) {
    const Victim victim = batch_.victims[i];
    std::size_t at = i;
    for (; at != 0 && before(victim, batch_.victims[at - 1]); --at)
      batch_.victims[at] = batch_.victims[at - 1];
    batch_.victims[at] = victim;
  }
}

// --- stage ------------------------------------------------------------------------------------

namespace {
Error protect(PagedRegion& region, PageRange page) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto done = region.memory.protect(page, Access::read);
  return done ? Error{} : done.error();
}

bool must_be_stored(const Victim& victim) noexcept PAGETRAP_SIGNAL_SAFE {
  return victim.region->slot(victim.index).load().stage() != Stage::leaving;
}
}  // namespace

// Moves the run of neighbours that starts at victim `first`. Returns how many have moved.
std::size_t Eviction::move_run(std::size_t first) noexcept PAGETRAP_SIGNAL_SAFE {
  PagedRegion& region = *batch_.victims[first].region;
  if (region.staging == nullptr || !region.may_move.load(std::memory_order_relaxed)) return 0;
  std::size_t length = 1;
  while (first + length < count_ && batch_.victims[first + length].region == &region &&
         batch_.victims[first + length].index == batch_.victims[first].index + length &&
         batch_.victims[first + length].word.writable() &&
         must_be_stored(batch_.victims[first + length]))
    ++length;
  const PageRange place = region.staging->pages(taken_.number(), staged_, length);
  const auto moved = region.memory.move_out(region.pages(batch_.victims[first].index, length),
                                            region.staging->region(), place);
  if (!moved) {
    // Shared with a child, pinned by the kernel: this page only. Not possible at all: no page.
    if (moved.error().number == ENOTSUP || moved.error().number == EINVAL)
      region.may_move.store(false, std::memory_order_relaxed);
    return 0;
  }
  for (std::size_t i = 0; i < moved->count(); ++i) {
    Victim& victim = batch_.victims[first + i];
    victim.bytes = place.base + (i << page_shift());
    victim.moved = true;
    engine_.frames[victim.frame].staged.store(victim.bytes, std::memory_order_release);
  }
  note(region.staging);
  moved_ += moved->count();
  staged_ += moved->count();
  return moved->count();
}

// A page that is mapped read-only is frozen already.
//
// RACE a write that comes after the protection faults and takes the page back: then what was copied
// may be torn, and is thrown away. If it is still evicting after the copy, no write came before its
// end, and the copy is what the page was.
void Eviction::copy_in_place(std::size_t which) noexcept PAGETRAP_SIGNAL_SAFE {
  Victim& victim = batch_.victims[which];
  PagedRegion& region = *victim.region;
  const PageRange page = region.pages(victim.index, 1);
  const Error error = victim.word.writable() ? protect(region, page) : Error{};
  engine_.frames[victim.frame].staged.store(Frame::in_place(), std::memory_order_seq_cst);
  if (error.number != 0) return refuse(victim, error);
  std::memcpy(taken_.copy(which), page.base, page_size());
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (region.slot(victim.index).load().stage() != Stage::evicting) {
    victim.stays = true;
    return;
  }
  victim.bytes = taken_.copy(which);
}

// Nobody can write the page while this thread is here: it is stored from its place. (The program
// pins what the kernel may write to at any time, io_uring's buffers: see Region::pin.)
void Eviction::leave_in_place(Victim& victim) noexcept PAGETRAP_SIGNAL_SAFE {
  engine_.frames[victim.frame].staged.store(Frame::in_place(), std::memory_order_relaxed);
  victim.bytes = victim.region->pages(victim.index, 1).base;
}

void Eviction::stage() noexcept PAGETRAP_SIGNAL_SAFE {
  const auto all = victims();
  if (std::none_of(all.begin(), all.end(), must_be_stored)) return;
  const bool alone = sys::alone();
  if (alone != engine_.alone.load(std::memory_order_relaxed))
    engine_.alone.store(alone, std::memory_order_relaxed);
  alone_ = alone && !keeps_;
  for (std::size_t next = 0; next < count_;) {
    if (!must_be_stored(batch_.victims[next])) {
      ++next;
      continue;
    }
    if (alone_) {
      leave_in_place(batch_.victims[next++]);
      continue;
    }
    const bool moves = !keeps_ && batch_.victims[next].word.writable();
    const std::size_t moved = moves ? move_run(next) : 0;
    if (moved == 0) copy_in_place(next);
    next += std::max<std::size_t>(moved, 1);
  }
}

// --- store ------------------------------------------------------------------------------------

void Eviction::store() noexcept PAGETRAP_SIGNAL_SAFE {
  std::size_t pages = 0;
  for (std::size_t i = 0; i <= count_; ++i) {
    const bool ends =
        i == count_ || (i != 0 && batch_.victims[i].region != batch_.victims[i - 1].region);
    if (ends && pages != 0) {
      store_pages(*batch_.victims[i - 1].region, pages);
      pages = 0;
    }
    if (i == count_ || batch_.victims[i].bytes == nullptr) continue;
    batch_.pages[pages] = {batch_.victims[i].index, batch_.victims[i].bytes};
    batch_.which[pages++] = i;
  }
}

void Eviction::store_pages(PagedRegion& region, std::size_t pages) noexcept PAGETRAP_SIGNAL_SAFE {
  constexpr std::size_t kSlice = 4;
  for (std::size_t next = 0; next < pages;) {
    if (alone_ && for_a_fault_ && changed_ >= engine_.options.eviction_batch)
      return postpone(next, pages);
    const std::size_t most = alone_ ? std::min(kSlice, pages - next) : pages - next;
    const auto rest = std::span<const PageRef>(batch_.pages).subspan(next, most);
    const Transfer transfer = region.source.write_back(rest);
    count(region.tally.unchanged, transfer.unchanged);
    changed_ += transfer.done - std::min(transfer.done, transfer.unchanged);
    next += std::min(transfer.done, rest.size());
    if (transfer.done >= rest.size()) continue;
    Error error = transfer.error;
    if (error.number == 0) error = Error{"Source::write_back", EIO, {}, "did less than all"};
    refuse(batch_.victims[batch_.which[next]], error);
    ++next;
  }
  engine_.count_source_bytes(region.source_bytes, region.source.memory_bytes());
}

// One fault has stored enough. The others are next, and prepared by then; nobody has seen them go.
void Eviction::postpone(std::size_t next, std::size_t pages) noexcept PAGETRAP_SIGNAL_SAFE {
  for (; next < pages; ++next) {
    Victim& victim = batch_.victims[batch_.which[next]];
    victim.region->slot(victim.index).set(victim.word);
    victim.stays = true;
    victim.is_next = true;
  }
}

// The page stays, as written as before.
void Eviction::refuse(Victim& victim, const Error& error) noexcept PAGETRAP_SIGNAL_SAFE {
  PagedRegion& region = *victim.region;
  victim.stays = true;
  ++refused_;
  count(region.tally.failed_writes);
  static_cast<void>(region.report({region.name.c_str(), victim.index, true, 1, error}));
  PageWord word = region.slot(victim.index).load();
  if (word.stage() == Stage::evicting &&
      region.slot(victim.index).change(word, word.in(Stage::rescuing)))
    region.put_back(victim.index, word);
}

// --- part -------------------------------------------------------------------------------------

// RACE against a rescue: both want the word to leave `evicting`, and one compare-and-swap wins. A
// rescuer that has won reads what is staged, so it is waited for before that is cleared.
void Eviction::part() noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint32_t stamp = engine_.evictions_now();
  for (Victim& victim : victims()) {
    PageSlot& slot = victim.region->slot(victim.index);
    PageWord word = slot.load();
    if (!victim.stays && word.stage() == Stage::evicting) {
      PageWord next = victim.moved ? PageWord::gone(stamp) : word.in(Stage::leaving);
      if (keeps_) next = word.in(Stage::resident).with_writable(false);
      victim.stays = keeps_;
      if (slot.change(word, next)) continue;
    }
    if (!victim.stays && word.stage() == Stage::leaving) continue;
    if (!victim.stays) count(victim.region->tally.rescued);
    victim.stays = true;
    while (slot.load().stage() == Stage::rescuing) sys::yield();
  }
}

// --- unmap ------------------------------------------------------------------------------------

void Eviction::unmap_of(PagedRegion& region, std::size_t first, std::size_t end) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::size_t ranges = 0;
  for (std::size_t i = first; i < end; ++i) {
    const Victim& victim = batch_.victims[i];
    if (victim.stays || victim.moved) continue;
    const PageRange page = region.pages(victim.index, 1);
    if (ranges != 0 && batch_.ranges[ranges - 1].end() == page.base) {
      PageRange& last = batch_.ranges[ranges - 1];
      last.length = Pages{last.length.count() + 1};
    } else {
      batch_.ranges[ranges++] = page;
    }
  }
  if (ranges == 0) return;
  const auto done = region.memory.discard(std::span<const PageRange>(batch_.ranges).first(ranges));
  const std::uint32_t stamp = engine_.evictions_now();
  for (std::size_t i = first; i < end; ++i) {
    Victim& victim = batch_.victims[i];
    if (victim.stays || victim.moved) continue;
    // The kernel refuses one of them (mlock), and may have dropped some before: asked one by one,
    // the page stays that it refuses, as clean as it was made. Dropping twice is no harm. With
    // mprotect(2) it is closed all the same, and has to be filled again.
    victim.stays = !done && !region.memory.discard(region.pages(victim.index, 1)) &&
                   region.memory.backend() != BackendId::mprotect;
    region.slot(victim.index)
        .set(victim.stays ? PageWord::resident(victim.frame, alone_ && victim.word.writable())
                          : PageWord::gone(stamp));
  }
}

void Eviction::unmap() noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::size_t first = 0; first < count_;) {
    std::size_t end = first + 1;
    while (end < count_ && batch_.victims[end].region == batch_.victims[first].region) ++end;
    unmap_of(*batch_.victims[first].region, first, end);
    first = end;
  }
}

void Eviction::note(Staging* staging) noexcept PAGETRAP_SIGNAL_SAFE {
  for (Staging*& known : batch_.stagings) {
    if (known == nullptr) known = staging;
    if (known == staging) return;
  }
}

void Eviction::clear_staging() noexcept PAGETRAP_SIGNAL_SAFE {
  // Regions of different delivery may have shared the batch: each has its own staging. What cannot
  // be dropped makes the next move to it fail, and that page is copied.
  for (Staging*& staging : batch_.stagings) {
    if (staging != nullptr)
      static_cast<void>(staging->region().discard(staging->pages(taken_.number(), 0, staged_)));
    staging = nullptr;
  }
  staged_ = 0;
}

// --- finish -----------------------------------------------------------------------------------

// Nothing of a region is touched after its frames are free: it may end then.
EvictionCount Eviction::finish() noexcept PAGETRAP_SIGNAL_SAFE {
  EvictionCount result;
  result.refused = refused_;
  bool prepares = false;
  for (const Victim& victim : victims()) {
    if (victim.stays) continue;
    ++result.gone;
    PagedRegion& region = *victim.region;
    prepares |= region.traits.prepares;
    count(region.tally.evicted);
    if (victim.bytes == nullptr) count(region.tally.dropped);
    region.tally.resident.fetch_sub(1, std::memory_order_relaxed);
    if (region.options.observer != nullptr)
      region.options.observer(region.options.observer_self, {.page = victim.index});
  }
  {
    const Locked locked(engine_.lock);
    for (const Victim& victim : victims()) {
      if (victim.stays) {
        engine_.frames[victim.frame].in_hand = false;
        if (victim.region->slot(victim.index).load().pins() != 0) continue;  // in no list
        victim.pool->policy->on_event(engine_.frames, victim.frame,
                                      victim.is_next ? FrameEvent::dont_need : FrameEvent::kept);
      } else {
        engine_.frames.give_back(victim.frame);
      }
    }
  }
  for (const Victim& victim : victims())
    if (!victim.stays) engine_.give_back_room(*victim.pool, 1);
  engine_.evictions_.fetch_add(result.gone, std::memory_order_relaxed);
  engine_.batches_.fetch_add(1, std::memory_order_relaxed);
  if (moved_ != 0) engine_.moved_out_.fetch_add(moved_, std::memory_order_relaxed);
  if (prepares) engine_.helper.look_at_victims(result.gone);
  return result;
}

EvictionCount Eviction::run() noexcept PAGETRAP_SIGNAL_SAFE {
  if (count_ == 0) return {};
  if (staged_ + count_ > kMostAtOnce) clear_staging();
  sort();
  stage();
  store();
  part();
  unmap();
  batch_.staged = staged_;
  return finish();
}

EvictionCount Engine::evict(Pool& pool, std::size_t wanted) noexcept PAGETRAP_SIGNAL_SAFE {
  Eviction eviction(*this);
  eviction.take(pool, wanted);
  return eviction.run();
}

EvictionCount Engine::evict_pages(PagedRegion& region, std::span<const std::uint64_t> pages,
                                  bool keep) noexcept {
  EvictionCount sum;
  while (!pages.empty()) {
    const auto part = pages.first(std::min(pages.size(), kMostAtOnce));
    pages = pages.subspan(part.size());
    const Inside inside;
    Eviction eviction(*this, keep);
    eviction.take(region, part);
    const EvictionCount count = eviction.run();
    sum.gone += count.gone;
    sum.refused += count.refused;
  }
  return sum;
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
