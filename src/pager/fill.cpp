#include "pager/fill.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "pager/gate.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {
namespace {

/// A run of pages that this thread is bringing.
class Run {
 public:
  Run(PagedRegion& region, std::uint64_t first) noexcept PAGETRAP_SIGNAL_SAFE
      : region_(region),
        first_(first),
        buffer_(region.engine.scratch) {}

  /// Claims pages from the first on, up to `most`, until one is not absent.
  void claim(std::size_t most) noexcept PAGETRAP_SIGNAL_SAFE {
    while (count_ < most && first_ + count_ < region_.length) {
      PageSlot& slot = region_.slot(first_ + count_);
      PageWord word = slot.load();
      if (word.stage() != Stage::absent || !slot.change(word, word.in(Stage::filling))) return;
      note(word);
    }
  }
  /// The first page, whose word the caller has changed.
  void note(PageWord before) noexcept PAGETRAP_SIGNAL_SAFE {
    buffer_.notes().before[count_] = before;
    buffer_.notes().pages[count_] = {first_ + count_, buffer_.page(count_)};
    ++count_;
  }
  [[nodiscard]] std::size_t count() const noexcept PAGETRAP_SIGNAL_SAFE { return count_; }

  /// Gives up the claims from page `kept` on.
  void shorten(std::size_t kept) noexcept PAGETRAP_SIGNAL_SAFE {
    if (kept >= count_) return;
    for (std::size_t i = kept; i < count_; ++i)
      region_.slot(first_ + i).set(buffer_.notes().before[i]);
    // Those who sleep on them look again.
    if (region_.by_handler_threads)
      static_cast<void>(region_.memory.wake(region_.pages(first_ + kept, count_ - kept)));
    count_ = kept;
  }

  /// Asks the source. What it could not do is given up, but for the first page, whose failure is
  /// returned.
  Error ask() noexcept PAGETRAP_SIGNAL_SAFE {
    const Transfer transfer = region_.source.fill(refs(0, count_));
    region_.engine.count_source_bytes(region_.source_bytes, region_.source.memory_bytes());
    if (transfer.done >= count_) return {};
    if (transfer.done != 0) {
      give_up_from(transfer.done);
      return {};
    }
    if (transfer.error.number != 0) return transfer.error;
    return Error{"Source::fill", EIO, {}, "did less than all"};
  }

  void zero_first() noexcept PAGETRAP_SIGNAL_SAFE { std::memset(buffer_.page(0), 0, page_size()); }

  /// Shows the pages to the program. A failure after the first page is a shorter run.
  Error supply(bool write) noexcept PAGETRAP_SIGNAL_SAFE {
    opens_ = region_.opens_at_once(count_);
    const Access others = opens_ ? Access::read_write : Access::read;
    const Access first = write ? Access::read_write : others;
    const std::size_t together = first == others ? count_ : 1;
    if (const auto done = region_.memory.supply(region_.pages(first_, together), buffer_.page(0),
                                                Supply::copy, first);
        !done)
      return done.error();
    if (together < count_) {
      const auto done = region_.memory.supply(region_.pages(first_ + 1, count_ - 1),
                                              buffer_.page(1), Supply::copy, others);
      if (!done) {
        // What of it was supplied all the same is there for ever unless it is dropped.
        static_cast<void>(region_.memory.discard(region_.pages(first_ + 1, count_ - 1)));
        give_up_from(1);
      }
    }
    return {};
  }

  void admit(bool write) noexcept PAGETRAP_SIGNAL_SAFE {
    // Before anybody can make victims of them.
    region_.source.arrived(first_, count_, that_came_soon());
    region_.engine.admit(region_, first_,
                         std::span<const PageWord>(buffer_.notes().before).first(count_),
                         write || opens_, opens_);
  }

  /// As GhostQueues has it: they left no more evictions ago than there are pages in memory.
  [[nodiscard]] std::size_t that_came_soon() const noexcept PAGETRAP_SIGNAL_SAFE {
    const std::size_t frames = region_.pool->used.load(std::memory_order_relaxed);
    const std::uint32_t now = region_.engine.evictions_now();
    std::size_t soon = 0;
    for (const PageWord before : std::span(buffer_.notes().before).first(count_))
      if (before.departed() && now - before.stamp() < frames) ++soon;
    return soon;
  }

  /// Pages from `kept` on get no frame: their claims and their room are given back.
  void give_up_from(std::size_t kept) noexcept PAGETRAP_SIGNAL_SAFE {
    region_.engine.give_back_room(*region_.pool, count_ - kept);
    shorten(kept);
  }

  void poison_first() noexcept PAGETRAP_SIGNAL_SAFE {
    region_.slot(first_).set(PageWord{}.in(Stage::poisoned));
    region_.tally.poisoned.fetch_add(1, std::memory_order_relaxed);
    region_.engine.give_back_room(*region_.pool, 1);
    buffer_.notes().before[0] = PageWord{}.in(Stage::poisoned);
  }

 private:
  [[nodiscard]] std::span<const PageRef> refs(std::size_t from, std::size_t end) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return std::span<const PageRef>(buffer_.notes().pages).subspan(from, end - from);
  }

  PagedRegion& region_;
  const std::uint64_t first_;
  const Scratch::Buffer buffer_;
  std::size_t count_ = 0;
  bool opens_ = false;  // pages that nobody has written yet are shown writable
};

// The source's answer for the first page, with the owner's help. False: poisoned.
bool ask_with_owner(PagedRegion& region, Run& run, std::uint64_t index) noexcept
    PAGETRAP_SIGNAL_SAFE {
  for (unsigned attempt = 1;; ++attempt) {
    const Error error = run.ask();
    if (error.number == 0) return true;
    count(region.tally.failed_fills);
    run.give_up_from(1);
    switch (region.report({region.name.c_str(), index, false, attempt, error})) {
      case OnError::retry:
        continue;
      case OnError::zeroes:
        run.zero_first();
        return true;
      case OnError::poison:
        run.poison_first();
        return false;
    }
  }
}

// How many pages a fault brings: more where faults follow each other, no more than a part of the
// room there is, so that what was brought is read before it is a victim.
std::size_t longest_run(const PagedRegion& region) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t room =
      std::min(region.engine.allowed_pages(), region.pool->limit.load(std::memory_order_relaxed));
  return std::clamp<std::size_t>(region.options.fault_around, 1,
                                 std::max<std::size_t>(1, room / 4));
}

constexpr std::size_t kAskHelperFrom = 16;  // pages of a stream, before the helper joins

}  // namespace

Filled fill(PagedRegion& region, std::uint64_t index, PageWord before, bool write,
            Errand errand) noexcept PAGETRAP_SIGNAL_SAFE {
  const bool observed = region.options.observer != nullptr && errand == Errand::fault;
  const std::uint64_t began = observed ? sys::monotonic_nanoseconds() : 0;
  Run run(region, index);
  if (!region.slot(index).change(before, before.in(Stage::filling))) return Filled::look_again;
  run.note(before);
  Streams::Step step;
  if (errand == Errand::fault) {
    count(region.tally.faults);
    const std::size_t longest = longest_run(region);
    step = region.streams.next(index, longest);
    if (region.is_sequential.load(std::memory_order_relaxed)) step.run = longest;
    run.claim(step.run);
  }
  const std::size_t room = region.engine.make_room(*region.pool, run.count());
  run.shorten(room);
  if (errand == Errand::fault) {
    std::uint64_t next = index + run.count();
    // RACE the helper begins beside this fill, behind it: none of its pages are claimed here.
    if (region.options.prefetch && step.run >= kAskHelperFrom && run.count() == step.run &&
        region.engine.helper.ask(region, next, 2 * step.run))
      next += 2 * step.run;
    region.streams.expect(step, next);
  }
  if (!ask_with_owner(region, run, index)) {
    if (region.by_handler_threads) static_cast<void>(region.memory.wake(region.pages(index, 1)));
    return Filled::failed;
  }
  const Error error = run.supply(write);
  if (error.number != 0) {
    static_cast<void>(region.report({region.name.c_str(), index, false, 1, error}));
    run.give_up_from(0);
    return Filled::failed;
  }
  run.admit(write);
  if (observed) {
    region.options.observer(region.options.observer_self,
                            {.in = true,
                             .page = index,
                             .count = run.count(),
                             .address = region.pages(index, 1).base,
                             .nanoseconds = sys::monotonic_nanoseconds() - began});
  }
  return Filled::done;
}

std::size_t fill_ahead(PagedRegion& region, std::uint64_t first, std::size_t count_wanted,
                       bool evicts, const std::atomic<bool>* given_up) noexcept
    PAGETRAP_SIGNAL_SAFE {
  constexpr std::size_t kChunk = 16;  // readers that catch up wait for no more than this
  const std::uint64_t end = std::min(first + count_wanted, region.length);
  std::size_t filled = 0;
  while (first < end && (given_up == nullptr || !given_up->load(std::memory_order_relaxed))) {
    const Inside inside;
    Run run(region, first);
    run.claim(std::min<std::size_t>(kChunk, end - first));
    if (run.count() == 0) {
      ++first;
      continue;
    }
    const std::size_t room = evicts ? region.engine.make_room(*region.pool, run.count())
                                    : region.engine.take_free_room(*region.pool, run.count());
    run.shorten(room);
    if (room == 0) break;
    if (run.ask().number != 0 || run.supply(false).number != 0) {
      run.give_up_from(0);
      break;  // whoever touches the page is told
    }
    run.admit(false);
    filled += run.count();
    first += run.count();
  }
  return filled;
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
