// mprotect(2) and SIGSEGV: the portable fallback, and the mechanism of 1991.
//
// Every state but read and read_write is PROT_NONE; the page states tell which one it is. Costs a
// kernel mapping for each run of pages with rights of its own: past vm.max_map_count (65530) calls
// fail with ENOMEM, and so do malloc and pthread_create of the whole process.
//
// Filling a page before others can see it: the page stays PROT_NONE while its contents are written
// past the protection, through the memory object's descriptor or /proc/self/mem (FOLL_FORCE), and
// is opened after. Rejected: unprotect, then fill (others read half a page); mremap of a filled
// page over it (atomic too, but splits mappings that never merge again).
#include <fcntl.h>
#include <sys/mman.h>

#include <array>

#include "sys/kernel_abi.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/backends/operations.hpp"
#include "vm/process_files.hpp"
#include "vm/region_state.hpp"
#include "vm/running.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

constexpr std::size_t kZeroBlock = 65536;
alignas(kZeroBlock) constexpr std::array<std::byte, kZeroBlock> kZeroes{};

int prot_of(PageState state) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state == PageState::read) return PROT_READ;
  if (state == PageState::read_write) return PROT_READ | PROT_WRITE;
  return PROT_NONE;
}

[[gnu::hot]] Outcome set_prot(PageRange range, int prot) noexcept PAGETRAP_SIGNAL_SAFE {
  const int error = sys::change_protection(range, prot);
  if (error == 0) return kDone;
  return Error{"mprotect", error, range,
               error == ENOMEM ? "probably vm.max_map_count: use a userfaultfd backend, whose "
                                 "protection needs no mappings, or raise the sysctl"
                               : ""};
}

Outcome attach(RegionState& state) {
  const PageState initial = state.pages.initial();
  if (initial == PageState::read_write) return kDone;
  if (initial == PageState::missing && state.options.backing == Backing::anonymous &&
      memory_descriptor() < 0)
    return Error{"open /proc/self/mem", EACCES, {}, "/proc must be mounted and writable"};
  return set_prot(state.range, prot_of(initial));
}

void detach(RegionState& state) noexcept {
  // Memory of our own is about to be unmapped; adopted memory is given back as it came.
  if (!state.owns_memory) set_prot(state.range, PROT_READ | PROT_WRITE);
}

// Another thread is filling the page, or taking its contents away: wait until that is done. It
// cannot be this thread, interrupted: a claim is held with all signals blocked.
void wait_for_claim(RegionState& state, const std::byte* page) noexcept PAGETRAP_SIGNAL_SAFE {
  while (state.pages.claimed(page)) sys::yield();
}

// The run of pages in one state from `next` on, without claimed ones.
PageRange unclaimed_run(RegionState& state, std::byte* next, std::byte* end) noexcept
    PAGETRAP_SIGNAL_SAFE {
  wait_for_claim(state, next);
  PageRange run = state.pages.run(next, end);
  if (!is_empty(state.pages.get(next))) return run;
  for (std::byte* page = next + page_size(); page < run.end(); page += page_size())
    if (state.pages.claimed(page))
      return {next, Pages{static_cast<std::size_t>(page - next) >> page_shift()}};
  return run;
}

// Pages that are empty stay so: there is nothing to protect, and opening them for reading would
// show zeroes.
// RACE a page is being filled: its claim ends when it is open, and is waited for, so that neither
// the filler opens what is closed here nor this passes over what he opens.
[[gnu::hot]] Outcome protect(RegionState& state, PageRange range, Access access) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const PageState after = access == Access::none ? PageState::none : PageState::read;
  for (std::byte* next = range.base; next < range.end();) {
    const PageRange run = unclaimed_run(state, next, range.end());
    const PageState from = state.pages.get(next);
    next = run.end();
    if (is_empty(from)) continue;
    const bool grows = from == PageState::none && after == PageState::read;
    if (!grows) state.pages.set(run, after);
    if (const Outcome outcome = set_prot(run, prot_of(after)); failed(outcome)) {
      // A prefix may be closed all the same. Its faults are delivered; but a page that is called
      // closed and is not would never be closed by the next call.
      state.pages.set(run, from);
      return outcome;
    }
    if (grows) state.pages.set(run, after);
  }
  return kDone;
}

Outcome write_past_protection(RegionState& state, std::byte* to, const std::byte* from,
                              std::size_t size_bytes) noexcept PAGETRAP_SIGNAL_SAFE {
  const bool object = state.memory_file >= 0;
  const int descriptor = object ? state.memory_file : memory_descriptor();
  const std::uint64_t offset = object ? state.offset_of(to) : reinterpret_cast<std::uintptr_t>(to);
  const int error = sys::pwrite_all(descriptor, from, size_bytes, offset);
  if (error == 0) return kDone;
  return Error{object ? "pwrite to the memory object" : "pwrite to /proc/self/mem",
               error,
               {to, pages_for(size_bytes)},
               object ? ""
                      : "the kernel may forbid forced writes (proc_mem.force_override): use "
                        "Backing::memfd or a userfaultfd backend"};
}

Outcome fill_contents(RegionState& state, PageRange run, const std::byte* from, Supply how) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (how == Supply::publish) return kDone;  // they are there
  if (how != Supply::zero) return write_past_protection(state, run.base, from, run.size_bytes());
  // Missing pages of private memory are zeroes already: created or discarded so.
  if (state.options.backing == Backing::anonymous) return kDone;
  for (std::size_t done = 0; done < run.size_bytes(); done += kZeroBlock) {
    const std::size_t left = std::min(kZeroBlock, run.size_bytes() - done);
    if (const Outcome outcome = write_past_protection(state, run.base + done, kZeroes.data(), left);
        failed(outcome))
      return outcome;
  }
  return kDone;
}

// Claims the longest run from `next` that is empty (missing, evicted or none). Zero length: none.
Pages claim_run(RegionState& state, std::byte* next, const std::byte* end,
                PageState expected) noexcept PAGETRAP_SIGNAL_SAFE {
  std::size_t length = 0;
  while (next < end && state.pages.claim(next, expected)) {
    ++length;
    next += page_size();
  }
  return Pages{length};
}

Outcome fill_run(RegionState& state, PageRange run, const std::byte* from, Supply how,
                 Access access, PageState before) noexcept PAGETRAP_SIGNAL_SAFE {
  const PageState after = filled_state(access);
  Outcome outcome = fill_contents(state, run, from, how);
  if (!failed(outcome)) outcome = set_prot(run, prot_of(after));
  state.pages.set(run, failed(outcome) ? before : after);  // ends the claim
  return outcome;
}

Outcome supply(RegionState& state, PageRange range, const std::byte* from, Supply how,
               Access access, std::size_t& filled) noexcept PAGETRAP_SIGNAL_SAFE {
  filled = 0;
  for (std::byte* next = range.base; next < range.end();) {
    // Taken before the signals are let in again: see wait_for_claim.
    const sys::AllSignalsBlocked no_interruption;
    PageState before = state.pages.get(next);
    const bool empty = before == PageState::missing || before == PageState::evicted ||
                       (how == Supply::publish && before == PageState::none);
    const Pages length = empty ? claim_run(state, next, range.end(), before) : Pages{};
    if (length == Pages{}) {
      wait_for_claim(state, next);
      next += page_size();
      continue;
    }
    const PageRange run{next, length};
    const std::byte* source = from != nullptr ? from + (next - range.base) : nullptr;
    if (const Outcome outcome = fill_run(state, run, source, how, access, before); failed(outcome))
      return outcome;
    filled += run.size_bytes();
    next = run.end();
  }
  if (how == Supply::move && filled == range.size_bytes()) {
    // "The contents of the buffer are undefined after": give its memory back, as a move would.
    static_cast<void>(sys::advise({const_cast<std::byte*>(from), range.length}, MADV_DONTNEED));
  }
  return kDone;
}

// RACE the table changes after the kernel, lest it call a page open that others still find closed.
// By then another thread may have emptied a page of the run, and opened by this call it would show
// zeroes that nobody supplied, and be passed over by protect(). Such a run is looked at again.
[[gnu::hot]] Outcome unprotect(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::byte* next = range.base; next < range.end();) {
    const PageRange run = state.pages.run(next, range.end());
    const PageState from = state.pages.get(next);
    if (from == PageState::missing && was_emptied_meanwhile(run)) {
      wait_for_claim(state, next);
    } else if (from == PageState::missing) {
      std::size_t filled = 0;
      if (const Outcome outcome =
              supply(state, run, nullptr, Supply::zero, Access::read_write, filled);
          failed(outcome))
        return outcome;
    } else {
      if (const Outcome outcome = set_prot(run, PROT_READ | PROT_WRITE); failed(outcome))
        return outcome;
      if (!state.pages.replace(run, from, PageState::read_write)) continue;
    }
    next = run.end();
  }
  return kDone;
}

// Takes every page of `range` from other fillers, waiting for those at work.
void claim_all(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::byte* page = range.base; page < range.end(); page += page_size())
    while (!state.pages.claim_any(page)) sys::yield();
}

// Closes `range`, then lets `drop` take its contents or mappings away.
// RACE supply() by another thread between the two would fill a page that is dropped next: readers
// would find zeroes. So the pages are claimed over both.
using Drop = Outcome (*)(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;
Outcome close_and(RegionState& state, PageRange range, PageState after, Drop drop) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const sys::AllSignalsBlocked no_interruption;  // a claim is never interrupted: see wait_for_claim
  claim_all(state, range);
  Outcome outcome = set_prot(range, prot_of(after));
  if (!failed(outcome)) outcome = drop(state, range);
  // If closing failed (ENOMEM) a prefix may be closed. Calling it all empty makes its pages fault
  // and be supplied again, and hides no fault of the others.
  state.pages.set(range, after);
  return outcome;
}

Outcome zap_mappings(RegionState&, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  const int error = sys::advise(range, MADV_DONTNEED);
  return error == 0 ? kDone : Error{"MADV_DONTNEED", error, range};
}

Outcome discard(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  return close_and(state, range, state.empty_state(), drop_contents);
}

Outcome evict(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state.options.backing == Backing::anonymous) return discard(state, range);
  if (!state.wants(FaultKind::minor)) return zap_mappings(state, range);  // nothing traps
  return close_and(state, range, PageState::evicted, zap_mappings);
}

// mprotect rights survive fork(). A claim of another thread of the parent does too, and nobody here
// would ever end it: the page is empty again.
Outcome rearm(RegionState& state) noexcept {
  PageState empty = state.empty_state();
  if (empty == PageState::read_write && state.wants(FaultKind::minor)) empty = PageState::evicted;
  std::byte* const end = state.range.end();
  for (std::byte* page = state.pages.first_claimed(state.range.base, end); page < end;
       page = state.pages.first_claimed(page + page_size(), end)) {
    const PageRange one{page, Pages{1}};
    if (const Outcome outcome = set_prot(one, prot_of(empty)); failed(outcome)) return outcome;
    // Half filled, or half dropped. Memory that is shared is the parent's affair.
    if (state.options.backing == Backing::anonymous) {
      if (const Outcome outcome = drop_contents(state, one); failed(outcome)) return outcome;
    }
    state.pages.set_one(page, empty);
  }
  return kDone;
}

}  // namespace

const BackendOperations kMprotectOperations = {BackendId::mprotect, attach, detach, rearm,  protect,
                                               unprotect,           supply, evict,  discard};

}  // namespace v0
}  // namespace pagetrap
