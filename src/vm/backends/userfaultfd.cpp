// userfaultfd: registered ranges, resolved by ioctl. Two backends that differ in delivery only:
//   uffd-inline  UFFD_FEATURE_SIGBUS: the faulting thread gets SIGBUS and resolves the fault itself
//   uffd-thread  messages to handler threads; the faulting thread sleeps in the kernel
//
// SOURCE userfaultfd(2), ioctl_userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst.
// Rights as the kernel has them:
//   read        UFFDIO_WRITEPROTECT (WP mode)
//   none        memory objects only: the page is zapped from this view, MINOR mode traps the next
//               access. Private memory has no such state before VM_UFFD_RWP comes.
//   missing     never supplied: MISSING mode
#include <sys/mman.h>

#include <algorithm>
#include <array>

#include "sys/kernel_abi.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/backends/operations.hpp"
#include "vm/channel.hpp"
#include "vm/process_files.hpp"
#include "vm/region_state.hpp"
#include "vm/running.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

bool is_shared(const RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE {
  return state.options.backing != Backing::anonymous;
}

bool tracks_asynchronously(const RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE {
  return state.dirty_form == DirtyForm::scan || state.dirty_form == DirtyForm::ring;
}

std::uint64_t modes_for(const RegionState& state) noexcept {
  std::uint64_t mode = 0;
  if (state.wants(FaultKind::missing)) mode |= UFFDIO_REGISTER_MODE_MISSING;
  if (state.wants(FaultKind::write_protected) || state.dirty_form != DirtyForm::none)
    mode |= UFFDIO_REGISTER_MODE_WP;
  if (is_shared(state) && (state.wants(FaultKind::minor) || state.wants(FaultKind::no_access)))
    mode |= UFFDIO_REGISTER_MODE_MINOR;
  return mode;  // 0: guards only, or a lift, which registers for its own time
}

std::uint64_t features_for(const RegionState& state, std::uint64_t mode, bool inline_delivery) {
  int error = 0;
  const std::uint64_t have = sys::userfaultfd_features(error);
  std::uint64_t features = 0;
  if (inline_delivery) features |= UFFD_FEATURE_SIGBUS;
  if ((mode & UFFDIO_REGISTER_MODE_WP) != 0) {
    features |= UFFD_FEATURE_PAGEFAULT_FLAG_WP;
    // Where missing pages fault by themselves they need no mark, which would cost page tables: a
    // lifted range is mostly empty.
    const bool needs_no_marks = state.options.liftable && state.wants(FaultKind::missing);
    if (!needs_no_marks) features |= have & UFFD_FEATURE_WP_UNPOPULATED;
    if (is_shared(state)) features |= UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
    if (tracks_asynchronously(state)) features |= UFFD_FEATURE_WP_ASYNC;
  }
  if ((mode & UFFDIO_REGISTER_MODE_MINOR) != 0) features |= UFFD_FEATURE_MINOR_SHMEM;
  if ((mode & UFFDIO_REGISTER_MODE_MISSING) != 0 && is_shared(state))
    features |= UFFD_FEATURE_MISSING_SHMEM;
  if (state.options.liftable) features |= UFFD_FEATURE_EVENT_REMAP;
  features |= have & UFFD_FEATURE_MOVE;
  return features;
}

Outcome register_range(RegionState& state) noexcept {
  std::uint64_t mode = state.uffd_mode;
  if (state.traps_missing.load()) mode |= UFFDIO_REGISTER_MODE_MISSING;  // a fork()ed child
  if (mode == 0) return kDone;
  if (const int error = sys::uffd_register(state.uffd, state.range, mode, &state.uffd_ioctls))
    return Error{"UFFDIO_REGISTER", error, state.range,
                 error == EBUSY ? "another userfaultfd has this range already"
                                : "this mapping does not support the requested faults"};
  state.registered = true;
  return kDone;
}

Outcome attach_with(RegionState& state, bool inline_delivery) {
  state.uffd_mode = modes_for(state);
  Channel::Needs needs;
  needs.features = features_for(state, state.uffd_mode, inline_delivery);
  needs.kernel_mode = !inline_delivery && state.options.kernel_accesses;
  needs.handler_threads = inline_delivery ? 0 : state.options.handler_threads;
  needs.busy_poll = !inline_delivery && state.options.busy_poll;
  if (state.options.liftable) {
    needs.own = true;
    needs.handler_threads = std::max(needs.handler_threads, 1U);  // reads the remap event
  }
  auto channel = Channel::get(needs);
  if (!channel) return channel.error();
  state.channel = std::move(*channel);
  state.uffd = state.channel->uffd();
  state.channel_protects_unpopulated =
      is_shared(state) || (state.channel->features() & UFFD_FEATURE_WP_UNPOPULATED) != 0 ||
      state.wants(FaultKind::missing);
  return register_range(state);
}

Outcome attach_inline(RegionState& state) { return attach_with(state, true); }
Outcome attach_thread(RegionState& state) { return attach_with(state, false); }

// Pages whose faults were declined (channel.cpp) are closed by mprotect(2).
Outcome reopen_declined(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (!state.declined.load(std::memory_order_relaxed)) [[likely]]
    return kDone;
  const int error = sys::change_protection(range, PROT_READ | PROT_WRITE);
  return error == 0 ? kDone : Error{"mprotect of a declined page", error, range};
}

void detach(RegionState& state) noexcept {
  if (!state.owns_memory) static_cast<void>(reopen_declined(state, state.range));
  // Whoever waits for a page of the range is woken and finds plain memory. Memory that is ours is
  // unmapped before, so that such a thread finds no zeroes it could take for data.
  // Only what is ours: kernels have been seen to end another userfaultfd's registration by this.
  if (state.registered && !state.owns_memory) {
    sys::uffd_unregister(state.uffd, state.range);
    sys::uffd_wake(state.uffd, state.range);  // the kernel wakes only those that miss a page
  }
}

Outcome fill_holes(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;

// Before 6.4 the kernel cannot write-protect what is not there. Reading a page maps the zero page,
// which can be.
Outcome populate_for_protection(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state.channel_protects_unpopulated) return kDone;
  if (state.traps_missing.load(std::memory_order_relaxed)) return fill_holes(state, range);
  const int error = sys::advise(range, MADV_POPULATE_READ);
  return error == 0 ? kDone : Error{"MADV_POPULATE_READ", error, range};
}

Outcome write_protect(RegionState& state, PageRange range, bool on) noexcept PAGETRAP_SIGNAL_SAFE {
  if (on) {
    if (const Outcome outcome = populate_for_protection(state, range); failed(outcome))
      return outcome;
  }
  sys::Patience patience;  // EAGAIN: while an event is unread
  for (;;) {
    const int error = sys::uffd_write_protect(state.uffd, range, on);
    if (error == 0) return kDone;
    if (error != EAGAIN || !state.channel->try_again(patience))
      return Error{"UFFDIO_WRITEPROTECT", error, range};
  }
}

/// One filling ioctl over part of a range; `filled` gets the bytes it did.
using Fill = int (*)(const RegionState& state, PageRange to, const std::byte* from, Access access,
                     std::size_t& filled) noexcept PAGETRAP_SIGNAL_SAFE;

[[gnu::hot]] int fill_copy(const RegionState& state, PageRange to, const std::byte* from,
                           Access access, std::size_t& filled) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t mode = access == Access::read ? UFFDIO_COPY_MODE_WP : 0;
  return sys::uffd_copy(state.uffd, to, from, mode, filled);
}

alignas(65536) constexpr std::array<std::byte, 65536> kZeroes{};

int fill_zero(const RegionState& state, PageRange to, const std::byte*, Access access,
              std::size_t& filled) noexcept PAGETRAP_SIGNAL_SAFE {
  constexpr std::uint64_t kCanZero = std::uint64_t{1} << _UFFDIO_ZEROPAGE;
  if (access == Access::read_write && (state.uffd_ioctls & kCanZero) != 0)
    return sys::uffd_zero(state.uffd, to, filled);
  // ZEROPAGE cannot protect what it maps, and some mappings lack it: copy zeroes.
  to.length = std::min(to.length, pages_for(kZeroes.size()));
  return fill_copy(state, to, kZeroes.data(), access, filled);
}

int fill_publish(const RegionState& state, PageRange to, const std::byte*, Access access,
                 std::size_t& filled) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t mode = access == Access::read ? UFFDIO_CONTINUE_MODE_WP : 0;
  return sys::uffd_continue(state.uffd, to, mode, filled);
}

int fill_move(const RegionState& state, PageRange to, const std::byte* from, Access access,
              std::size_t& filled) noexcept PAGETRAP_SIGNAL_SAFE {
  const bool can_move = (state.channel->features() & UFFD_FEATURE_MOVE) != 0 && !is_shared(state) &&
                        access == Access::read_write;
  if (can_move) {
    const int error = sys::uffd_move(state.uffd, to, from, 0, filled);
    // EBUSY: the source is pinned or shared with a fork()ed child; EINVAL: not plain private
    // memory; ENOENT: never touched, zeroes. Copying serves all, a page at a time.
    if (error != EBUSY && error != EINVAL && error != ENOENT) return error;
    if (filled != 0) return 0;
    to.length = Pages{1};
  }
  return fill_copy(state, to, from, access, filled);
}

Fill fill_by(Supply how) noexcept PAGETRAP_SIGNAL_SAFE {
  switch (how) {
    case Supply::copy:
      return fill_copy;
    case Supply::move:
      return fill_move;
    case Supply::zero:
      return fill_zero;
    case Supply::publish:
      break;
  }
  return fill_publish;
}

// Fills what is not there yet. The kernel stops at the first page that is (EEXIST), having done a
// prefix: step over it and go on. Losing a race for a page is therefore no error.
[[gnu::hot]] Outcome fill_all(const RegionState& state, PageRange range, const std::byte* from,
                              Fill fill, Access access, std::size_t& filled) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::byte* next = range.base;
  sys::Patience patience;
  filled = 0;
  while (next < range.end()) {
    const auto left = static_cast<std::size_t>(range.end() - next);
    const std::byte* source = from != nullptr ? from + (next - range.base) : nullptr;
    std::size_t done = 0;
    const PageRange rest{next, Pages{left >> page_shift()}};
    const int error = fill(state, rest, source, access, done);
    filled += done;
    next += done;
    if (error == EEXIST) {
      // A thread may sleep on this page, woken for nothing when the winner published it.
      sys::uffd_wake(state.uffd, {next, Pages{1}});
      next += page_size();
    } else if (error == EAGAIN) {
      // After a prefix it only says that there is more to do.
      if (done == 0 && !state.channel->try_again(patience))
        return Error{"userfaultfd fill", EAGAIN, rest};
    } else if (error != 0) {
      return Error{
          "userfaultfd fill", error, rest,
          error == EFAULT ? "publish: the backing has no such page yet; else a bad buffer" : ""};
    }
  }
  return kDone;
}

// After a lift reading a hole would be a fault of its own.
Outcome fill_holes(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  std::size_t filled = 0;
  return fill_all(state, range, nullptr, fill_zero, Access::read_write, filled);
}

// A run of pages in one state, made readable or writable.
Outcome grant_run(RegionState& state, PageRange run, PageState from, Access access) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const bool traps_writes = (state.uffd_mode & UFFDIO_REGISTER_MODE_WP) != 0;
  std::size_t filled = 0;
  if (from == PageState::none || from == PageState::evicted)
    return fill_all(state, run, nullptr, fill_publish, access, filled);
  if (from == PageState::missing) return fill_all(state, run, nullptr, fill_zero, access, filled);
  return traps_writes ? write_protect(state, run, access == Access::read) : kDone;
}

// A page that the table calls missing, whose fault was about its protection. RACE if it is there
// all the same, somebody fills it at this moment: open it. Waking its thread alone would go round
// in circles.
Outcome open_if_there(RegionState& state, PageRange page) noexcept PAGETRAP_SIGNAL_SAFE {
  if (sys::has_page(pagemap_descriptor(), page.base) > 0)
    state.pages.replace(page, PageState::missing, PageState::read_write);
  if ((state.uffd_mode & UFFDIO_REGISTER_MODE_WP) != 0) return write_protect(state, page, false);
  sys::uffd_wake(state.uffd, page);
  return kDone;
}

bool is_there(PageState state) noexcept PAGETRAP_SIGNAL_SAFE {
  return state == PageState::read || state == PageState::read_write;
}

// Rights of `range` become `access`. Pages that are empty stay so when rights are taken away: there
// is nothing to protect, and supply() says what they get.
//
// RACE the table must never call a page empty that has been filled, nor protected that is open, or
// this, DIRTY and freeze would pass over it. So it changes before the kernel when a page is filled
// or protected, and after it when a protected page is opened. By then the thread that waited for
// the page may have dropped it: what is empty stays so (replace()). The other way round is
// harmless: the kernel is asked for every page that is not empty, whatever rights the table thinks
// it has, and names a write to a protected page itself.
Outcome for_runs(RegionState& state, PageRange range, Access access, PageState after) noexcept
    PAGETRAP_SIGNAL_SAFE {
  for (std::byte* next = range.base; next < range.end();) {
    PageRange run = state.pages.run(next, range.end());
    PageState from = state.pages.get(next);
    next = run.end();
    if (access == Access::read && is_empty(from)) continue;
    if (access == Access::read && is_there(from)) {
      // What is protected already costs less to protect again than a call for each run.
      while (next < range.end() && is_there(state.pages.get(next)))
        next = state.pages.run(next, range.end()).end();
      run.length = pages_for(static_cast<std::size_t>(next - run.base));
      from = PageState::read_write;  // if it is refused: may be open
    }
    if (from == PageState::missing && was_emptied_meanwhile(run)) {
      if (const Outcome outcome = open_if_there(state, run); failed(outcome)) return outcome;
      continue;
    }
    const bool before_kernel = access == Access::read || is_empty(from) || from == PageState::none;
    if (before_kernel) state.pages.set(run, after);
    const Outcome outcome = grant_run(state, run, from, access);
    if (failed(outcome)) {
      if (before_kernel) state.pages.set(run, from);
      return outcome;
    }
    if (!before_kernel) state.pages.replace(run, from, after);
  }
  return kDone;
}

Outcome zap_view(RegionState& state, PageRange range, PageState after) noexcept
    PAGETRAP_SIGNAL_SAFE {
  state.pages.set(range, after);
  if (const int error = sys::advise(range, MADV_DONTNEED))
    return Error{"MADV_DONTNEED", error, range};
  // Zapping keeps a write-protected page's mark in the empty entry. The page is guarded by its
  // absence from now on; the mark would protect it again when it is mapped.
  if ((state.uffd_mode & UFFDIO_REGISTER_MODE_WP) != 0 && !tracks_asynchronously(state))
    return write_protect(state, range, false);
  return kDone;
}

// Access::none: zap what is mapped. Empty pages stay empty, as in for_runs.
Outcome close_runs(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::byte* next = range.base; next < range.end();) {
    const PageRange run = state.pages.run(next, range.end());
    const bool empty = is_empty(state.pages.get(next));
    next = run.end();
    if (empty) continue;
    // A page that nobody ever touched is not in the memory object yet: zapping it would trap
    // nothing.
    if (!state.wants(FaultKind::missing)) {
      if (const int error = sys::advise(run, MADV_POPULATE_READ))
        return Error{"MADV_POPULATE_READ", error, run};
    }
    if (const Outcome outcome = zap_view(state, run, PageState::none); failed(outcome))
      return outcome;
  }
  return kDone;
}

// PROT1 and UNPROT of one present page are what traps are made of: the general way below costs a
// tenth of the whole cycle. False: take that way.
[[gnu::hot]] bool flip_one_page(RegionState& state, PageRange page, PageState from,
                                PageState to) noexcept PAGETRAP_SIGNAL_SAFE {
  const bool simple = page.length == Pages{1} && state.pages.get(page.base) == from &&
                      (state.uffd_mode & UFFDIO_REGISTER_MODE_WP) != 0 &&
                      state.channel_protects_unpopulated && !tracks_asynchronously(state);
  if (!simple) return false;
  const bool protects = to == PageState::read;
  if (protects) state.pages.set_one(page.base, to);  // see for_runs
  if (sys::uffd_write_protect(state.uffd, page, protects) != 0) [[unlikely]] {
    state.pages.set_one(page.base, from);
    return false;
  }
  if (!protects) state.pages.replace_one(page.base, from, to);
  return true;
}

[[gnu::hot]] Outcome protect(RegionState& state, PageRange range, Access access) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (access == Access::read && flip_one_page(state, range, PageState::read_write, PageState::read))
      [[likely]]
    return kDone;
  if (access == Access::none) {
    if (!is_shared(state))
      return Error{"protect", ENOTSUP, range,
                   "userfaultfd cannot forbid reading private memory; use Backing::memfd, guard(), "
                   "or the mprotect backend"};
    return close_runs(state, range);
  }
  if ((state.uffd_mode & UFFDIO_REGISTER_MODE_WP) == 0 || tracks_asynchronously(state))
    return Error{"protect", ENOTSUP, range,
                 "the region was made without FaultKind::write_protected"};
  return for_runs(state, range, Access::read, PageState::read);
}

[[gnu::hot]] Outcome unprotect(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = reopen_declined(state, range); failed(outcome)) return outcome;
  if (flip_one_page(state, range, PageState::read, PageState::read_write)) [[likely]]
    return kDone;
  // A fault on a page that the table calls open: it was resolved by another thread, or the memory
  // was dropped behind our back (the program's own madvise), and then it is filled. RACE looked at
  // before the page is opened: after it, the thread that waited may have dropped it for good.
  const bool dropped = range.length == Pages{1} && !was_emptied_meanwhile(range) &&
                       state.pages.get(range.base) == PageState::read_write &&
                       sys::has_page(pagemap_descriptor(), range.base) <= 0;
  const Outcome outcome = for_runs(state, range, Access::read_write, PageState::read_write);
  if (failed(outcome) || !dropped) return outcome;
  std::size_t filled = 0;
  if ((state.uffd_mode & UFFDIO_REGISTER_MODE_MINOR) != 0)
    static_cast<void>(fill_all(state, range, nullptr, fill_publish, Access::read_write, filled));
  if ((state.uffd_mode & UFFDIO_REGISTER_MODE_MISSING) != 0)
    return fill_all(state, range, nullptr, fill_zero, Access::read_write, filled);
  return kDone;
}

// Names the pages that are to be filled, before they are (see for_runs). Others keep their state:
// somebody filled them already, and they have the rights that he gave.
void name_filled(RegionState& state, PageRange range, Supply how, PageState after) noexcept
    PAGETRAP_SIGNAL_SAFE {
  for (std::byte* page = range.base; page < range.end(); page += page_size()) {
    const PageState known = state.pages.get(page);
    if (is_empty(known) || (how == Supply::publish && known == PageState::none))
      state.pages.set_one(page, after);
  }
}

[[gnu::hot]] Outcome supply(RegionState& state, PageRange range, const std::byte* from, Supply how,
                            Access access, std::size_t& filled) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = reopen_declined(state, range); failed(outcome)) return outcome;
  if (access == Access::read && (state.uffd_mode & UFFDIO_REGISTER_MODE_WP) == 0)
    access = Access::read_write;  // nothing here can trap the write; Region::supply documents it
  const PageState before = state.pages.get(range.base);
  name_filled(state, range, how, filled_state(access));
  const Outcome outcome = fill_all(state, range, from, fill_by(how), access, filled);
  // RACE discard() by another thread between the name and the fill called the pages missing again.
  if (!failed(outcome) && filled != 0) name_filled(state, range, how, filled_state(access));
  if (failed(outcome) && (is_empty(before) || before == PageState::none)) {
    // What was not reached is as empty as it was; `range` of the error starts there.
    const PageRange rest{
        outcome.range.base,
        Pages{static_cast<std::size_t>(range.end() - outcome.range.base) >> page_shift()}};
    state.pages.set(rest, before);
  }
  return outcome;
}

Outcome evict(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (is_shared(state) && (state.uffd_mode & UFFDIO_REGISTER_MODE_MINOR) != 0)
    return zap_view(state, range, PageState::evicted);
  // A memory object without minor faults keeps its contents, and nothing traps.
  if (!is_shared(state)) state.pages.set(range, state.empty_state());
  if (const int error = sys::advise(range, MADV_DONTNEED))
    return Error{"MADV_DONTNEED", error, range};
  return kDone;
}

Outcome discard(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = reopen_declined(state, range); failed(outcome)) return outcome;
  state.pages.set(range, state.empty_state());
  if (const Outcome outcome = drop_contents(state, range); failed(outcome)) return outcome;
  // Marks of a memory object outlive its contents, and would trap writes to what is open now.
  const bool marked = is_shared(state) && (state.uffd_mode & UFFDIO_REGISTER_MODE_WP) != 0 &&
                      !tracks_asynchronously(state);
  return marked ? write_protect(state, range, false) : kDone;
}

// Registration is lost in a fork()ed child, and with it every mark. Re-register, then protect what
// the table calls protected. Missing and evicted need nothing: absence is inherited.
Outcome rearm(RegionState& state) noexcept {
  state.uffd = state.channel->uffd();
  if (const Outcome outcome = register_range(state); failed(outcome)) return outcome;
  if (state.pages.initial() == PageState::read_write && tracks_asynchronously(state)) return kDone;
  std::byte* next = state.pages.first_changed(state.range.base, state.range.end());
  while (next < state.range.end()) {
    const PageRange run = state.pages.run(next, state.range.end());
    if (state.pages.get(next) == PageState::read) {
      if (const Outcome outcome = write_protect(state, run, true); failed(outcome)) return outcome;
    } else if (state.pages.get(next) == PageState::none && is_shared(state)) {
      // A shared page that was zapped here may be mapped in the child by fork's own copying.
      if (const int error = sys::advise(run, MADV_DONTNEED))
        return Error{"MADV_DONTNEED", error, run};
    }
    next = state.pages.first_changed(run.end(), state.range.end());
  }
  return kDone;
}

}  // namespace

const BackendOperations kUffdInlineOperations = {BackendId::uffd_inline,
                                                 attach_inline,
                                                 detach,
                                                 rearm,
                                                 protect,
                                                 unprotect,
                                                 supply,
                                                 evict,
                                                 discard,
                                                 uffd_discard_all,
                                                 uffd_move_out};
const BackendOperations kUffdThreadOperations = {BackendId::uffd_thread,
                                                 attach_thread,
                                                 detach,
                                                 rearm,
                                                 protect,
                                                 unprotect,
                                                 supply,
                                                 evict,
                                                 discard,
                                                 uffd_discard_all,
                                                 uffd_move_out};

}  // namespace v0
}  // namespace pagetrap
