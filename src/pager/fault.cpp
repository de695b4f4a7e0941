// A page is touched: what its word says, and what is done about it. Runs inside signal handlers.
#include <unistd.h>
#include <cerrno>

#include <pagetrap/core/signal_safe_text.hpp>

#include "pager/fill.hpp"
#include "pager/gate.hpp"
#include "pager/paged_region.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

Verdict PagedRegion::handle(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  return static_cast<PagedRegion*>(self)->on_fault(fault);
}

// In a handler thread `resolved` lets the toucher sleep until its page is supplied, by whomever;
// `retry` wakes it.
Verdict PagedRegion::on_fault(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  if (fault.write && read_only()) return Verdict::not_mine;
  Inside inside;
  const Verdict verdict = serve(fault);
  // Else an earlier handler comes next, which must run with the signals it knows.
  if (fault.context != nullptr && verdict != Verdict::not_mine) inside.leave_signals_to_sigreturn();
  return verdict;
}

Verdict PagedRegion::serve(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t index = index_of(fault.page.base);
  for (;;) {
    const PageWord word = slot(index).load();
    switch (word.stage()) {
      case Stage::absent: {
        const Filled filled = fill(*this, index, word, fault.write, Errand::fault);
        if (filled == Filled::failed) return Verdict::not_mine;
        if (filled == Filled::done) return Verdict::resolved;
        break;
      }
      case Stage::filling:
        // RACE the supply that wakes all sleepers may come before or after this look. But a write
        // to a page that has been supplied already, for reading, would wait for a second one: it is
        // about to be resident, and only then may be opened.
        if (by_handler_threads && fault.kind == FaultKind::missing) return Verdict::resolved;
        if (!share_read_ahead(index)) sys::yield();
        break;
      case Stage::resident:
        if (fault.write && !word.writable()) {
          if (open_for_writing(index, word)) return Verdict::resolved;
          break;
        }
        // Mostly a fault that was raised before another thread brought the page.
        if (fault.kind == FaultKind::missing) replace_dropped(index, word);
        return Verdict::retry;
      case Stage::evicting:
        // One that the evictor leaves in its place while it copies is there for readers, unless the
        // program has dropped it. Then it stays, and is found dropped by the next fault: the
        // evictor's own, too, which would read it for ever.
        if (rescue(index, word, fault.write || is_dropped(fault))) return Verdict::retry;
        break;
      case Stage::leaving:
      case Stage::rescuing:
        sys::yield();
        break;
      case Stage::poisoned:
        return Verdict::not_mine;
    }
  }
}

bool PagedRegion::bring(std::uint64_t index, Errand errand) noexcept PAGETRAP_SIGNAL_SAFE {
  for (;;) {
    const PageWord word = slot(index).load();
    switch (word.stage()) {
      case Stage::absent:
        if (fill(*this, index, word, false, errand) == Filled::failed) return false;
        break;
      case Stage::resident:
        return true;
      case Stage::evicting:
        static_cast<void>(rescue(index, word, true));
        break;
      case Stage::filling:
      case Stage::leaving:
      case Stage::rescuing:
        sys::yield();
        break;
      case Stage::poisoned:
        return false;
    }
  }
}

// The helper is on its way to page `index`, and behind it. Rather than wait, this thread fills what
// is at the far end of that run: both CPUs work until they meet, however fast each of them is.
bool PagedRegion::share_read_ahead(std::uint64_t index) noexcept PAGETRAP_SIGNAL_SAFE {
  constexpr std::size_t kPart = 16;
  for (std::uint64_t end = engine.helper.end_of_run(*this, index); end > index + kPart;
       end -= kPart) {
    if (slot(end - kPart).load().stage() != Stage::absent) continue;
    return fill_ahead(*this, end - kPart, kPart, true) != 0;
  }
  return false;
}

// RACE between the word and the page table's change an evictor might take the page, and unprotect()
// of what it has taken away would make zeroes. So the page is in a stage of this thread's own
// meanwhile.
bool PagedRegion::open_for_writing(std::uint64_t index, PageWord word) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (!slot(index).change(word, word.in(Stage::rescuing))) return false;
  const auto opened = memory.unprotect(pages(index, 1));
  slot(index).set(word.with_writable(static_cast<bool>(opened)));
  count(tally.write_traps);
  openings.trapped();
  return true;
}

bool PagedRegion::is_dropped(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  return fault.kind == FaultKind::missing && !sys::in_core(fault.page);
}

// The program itself may have dropped the page (madvise). It reads as zeroes then, as all memory
// does; where the contents are a function of the index, as that.
void PagedRegion::replace_dropped(std::uint64_t index, PageWord word) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const PageRange page = pages(index, 1);
  if (sys::in_core(page)) return;
  if (!slot(index).change(word, word.in(Stage::rescuing))) return;
  if (!sys::in_core(page)) {
    const Scratch::Buffer buffer(engine.scratch);
    const PageRef ref{index, buffer.page(0)};
    const bool filled = read_only() && source.fill(std::span(&ref, 1)).done == 1;
    const auto done = filled ? memory.supply(page, ref.bytes, Supply::copy, Access::read)
                             : memory.supply(page, nullptr, Supply::zero);
    // A page that is only swapped out is there: none is supplied then. What could not be supplied
    // faults again, and is tried again.
    if (done && *done == Pages{1} && !read_only()) word = word.with_writable(true);
  }
  slot(index).set(word);
}

// A victim that is touched stays. True: the access may go on.
// RACE the frame may have gone and be another page's by the time its `staged` is read. That is read
// again after the word is ours: then nobody clears it.
bool PagedRegion::rescue(std::uint64_t index, PageWord word, bool write) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::byte* const staged =
      engine.frames[word.frame()].staged.load(std::memory_order_acquire);
  if (staged == nullptr) {
    sys::yield();  // the evictor is about to stage it
    return false;
  }
  if (staged == Frame::in_place() && !write) return true;  // still mapped, for reading
  if (!slot(index).change(word, word.in(Stage::rescuing))) return false;
  put_back(index, word);
  return true;
}

void PagedRegion::put_back(std::uint64_t index, PageWord word) noexcept PAGETRAP_SIGNAL_SAFE {
  std::atomic<std::byte*>& where = engine.frames[word.frame()].staged;
  std::byte* staged = where.load(std::memory_order_acquire);
  for (; staged == nullptr; staged = where.load(std::memory_order_acquire)) sys::yield();
  const PageRange page = pages(index, 1);
  for (sys::Patience patience;;) {
    const bool done = staged == Frame::in_place()
                          ? static_cast<bool>(memory.unprotect(page))
                          : static_cast<bool>(memory.supply(page, staged, Supply::copy));
    // Only for want of memory. There is no other copy of the page: try on.
    if (done || !patience.wait()) break;
  }
  slot(index).set(word.in(Stage::resident).with_writable(true));
}

OnError PagedRegion::report(const SourceFailure& failure) noexcept PAGETRAP_SIGNAL_SAFE {
  if (failure.writing) last_error.store(failure.error.number, std::memory_order_relaxed);
  if (options.on_failure != nullptr) return options.on_failure(options.failure_self, failure);
  // A store that is full refuses page after page: once is enough.
  if (failure.writing && complained_.exchange(true)) return OnError::poison;
  SignalSafeText line;
  line.text("pagetrap: page ").unsigned_decimal(failure.page).text(" of paged region '");
  line.text(failure.region)
      .text(failure.writing ? "' could not be written back: " : "' could not be filled: ");
  line.text(failure.error.operation).text(": errno ").decimal(failure.error.number);
  line.text(failure.writing ? "; it stays in memory\n" : "\n");
  sys::write_all(STDERR_FILENO, line.view().data(), line.view().size());
  return OnError::poison;
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
