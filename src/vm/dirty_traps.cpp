// DirtyForm::traps: a write to a clean page faults; the fault marks the page and opens it.
//
// Exactness. Neither "mark, then open" nor "open, then mark" is right against a collector that
// clears the mark and protects again: the first lets the collector clear the mark between the two
// steps, so that the page is open and unmarked; the second lets it look before the mark is there.
// So a page's mark is a word: bit 15 "written", the rest a count of faults that are opening it now.
//   fault      +1; open; set written and -1 in one step
//   collector  takes a page only if written and the count is 0: compare-and-swap to 0, clean, then
//              protect. A page whose count is not 0 is waited for: its fault handler is three
//              instructions from the end, or its thread is not running and will be.
// RACE collector sets 0, page still open: a write now is before dirty() returns and is covered by
//      this report; the page is protected before dirty() returns.
// RACE a stale fault (raised before another opened the page) arrives after the collector protected
//      again: it marks and opens; its thread then writes. Reported by the next call. Exact.
#include <sys/mman.h>

#include <atomic>

#include "sys/mapping.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/dirty_tracker.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

class TrapTracker final : public DirtyTracker {
 public:
  TrapTracker(sys::Mapping memory, PageRange range)
      : memory_(std::move(memory)),
        marks_(reinterpret_cast<std::atomic<std::uint16_t>*>(memory_.data())),
        range_(range) {}

  // All pages are clean in a fresh table: what can be written is protected, the rest traps anyway.
  Outcome begin(RegionState& state) override { return protect_written(state, state.range); }

  Outcome arm(RegionState& state, PageRange range) override {
    for (std::byte* page = range.base; page < range.end(); page += page_size()) take(page);
    return protect_written(state, range);
  }

  Result<Pages> collect(RegionState& state, PageRange range, std::vector<PageRange>& out) override {
    std::size_t pages = 0;
    const std::size_t first = out.size();
    for (std::byte* page = range.base; page < range.end(); page += page_size()) {
      if (mark_of(page).load(std::memory_order_acquire) == 0 || !take(page)) continue;
      pages += 1;
      if (out.size() > first && out.back().end() == page) {
        out.back().length = Pages{out.back().length.count() + 1};
      } else {
        out.push_back({page, Pages{1}});
      }
    }
    for (std::size_t i = first; i < out.size(); ++i) {
      const Outcome outcome = protect_written(state, out[i]);
      if (failed(outcome)) {
        // They stay open: they must stay marked, or a write would be lost. `out` keeps them as
        // well.
        for (std::size_t rest = i; rest < out.size(); ++rest) mark_written(out[rest]);
        return outcome;
      }
    }
    return Pages{pages};
  }

  bool on_write_fault(RegionState& state, PageRange page) noexcept PAGETRAP_SIGNAL_SAFE override {
    opening(page);
    const Outcome outcome = state.operations.unprotect(state, page);
    opened(page);
    // Not resolved (out of mappings): the region's handler may know better, or the program dies.
    return !failed(outcome);
  }

  void opening(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE override {
    for (std::byte* page = range.base; page < range.end(); page += page_size())
      mark_of(page).fetch_add(1, std::memory_order_acq_rel);
  }

  void opened(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE override {
    for (std::byte* page = range.base; page < range.end(); page += page_size()) {
      std::atomic<std::uint16_t>& mark = mark_of(page);
      std::uint16_t before = mark.load(std::memory_order_relaxed);
      while (!mark.compare_exchange_weak(
          before, static_cast<std::uint16_t>((before - 1) | kWritten), std::memory_order_acq_rel)) {
      }
    }
  }

  Outcome rearm_in_child(RegionState&) noexcept override {
    // Rights were armed again from the page states. Faults that were opening a page belong to
    // threads that do not exist here.
    for (std::byte* page = range_.base; page < range_.end(); page += page_size()) {
      const std::uint16_t mark = mark_of(page).load(std::memory_order_relaxed);
      if (mark != 0 && mark != kWritten) mark_of(page).store(kWritten, std::memory_order_relaxed);
    }
    return kDone;
  }

 private:
  static constexpr std::uint16_t kWritten = 0x8000;

  // Clears the page's mark; false if it was clean. Waits for faults that are opening the page.
  bool take(const std::byte* page) noexcept {
    std::atomic<std::uint16_t>& mark = mark_of(page);
    std::uint16_t current = mark.load(std::memory_order_acquire);
    for (;;) {
      if (current == 0) return false;
      if (current == kWritten) {
        if (mark.compare_exchange_weak(current, 0, std::memory_order_acq_rel)) return true;
      } else {
        sys::yield();
        current = mark.load(std::memory_order_acquire);
      }
    }
  }

  // Protects what may be writable: an empty page traps as missing, and a page that is closed to all
  // access stays so. What the table calls protected too: a stale fault may be opening it.
  static Outcome protect_written(RegionState& state, PageRange range) {
    for (std::byte* next = range.base; next < range.end();) {
      const PageRange run = state.pages.run(next, range.end());
      const PageState known = state.pages.get(next);
      if (known == PageState::read_write || known == PageState::read) {
        const Outcome outcome = state.operations.protect(state, run, Access::read);
        if (failed(outcome)) return outcome;
      }
      next = run.end();
    }
    return kDone;
  }

  void mark_written(PageRange range) noexcept {
    for (std::byte* page = range.base; page < range.end(); page += page_size())
      mark_of(page).fetch_or(kWritten, std::memory_order_acq_rel);
  }

  std::atomic<std::uint16_t>& mark_of(const std::byte* page) noexcept PAGETRAP_SIGNAL_SAFE {
    return marks_[static_cast<std::size_t>(page - range_.base) >> page_shift()];
  }

  sys::Mapping memory_;
  std::atomic<std::uint16_t>* marks_;
  PageRange range_;
};

}  // namespace

Result<std::unique_ptr<DirtyTracker>> make_trap_tracker(PageRange range) {
  sys::Mapping::Request request;
  request.size_bytes = bytes(pages_for(range.length.count() * sizeof(std::uint16_t)));
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  auto memory = sys::Mapping::create(request);
  if (!memory) return memory.error();
  return std::unique_ptr<DirtyTracker>(std::make_unique<TrapTracker>(std::move(*memory), range));
}

}  // namespace v0
}  // namespace pagetrap
