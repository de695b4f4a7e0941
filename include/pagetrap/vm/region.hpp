// Region: a range of addresses whose page rights the program controls itself, with the six
// primitives of Appel & Li 1991: TRAP on_fault, PROT1 and PROTN protect, UNPROT unprotect and
// supply, DIRTY dirty, MAP2 map_twice. Start reading here.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/vm/backend.hpp>
#include <pagetrap/vm/fault.hpp>
#include <pagetrap/vm/view.hpp>

namespace pagetrap {
inline namespace v0 {

struct RegionState;  // src/vm/region_state.hpp
class Lift;          // lift.hpp
class Window;        // window.hpp

/// Where the handler runs.
enum class Delivery : std::uint8_t { any, faulting_thread, handler_threads };

/// How writes are found. See docs/design/vm.md, "DIRTY".
enum class DirtyForm : std::uint8_t {
  none,
  best,   // scan, or traps where the kernel is older than 6.7
  scan,   // the kernel resolves the write faults (WP_ASYNC), PAGEMAP_SCAN finds the pages
  traps,  // write-protect traps in the faulting thread (or handler threads)
  ring,   // as scan, and a perf ring of fault addresses makes collecting a few pages cheap
};

/// What a fork()ed child finds at the region's addresses.
enum class ForkPolicy : std::uint8_t {
  rearm,   // the same region, armed and with its handler. Private memory is a copy, memfd and file
           // memory is shared with the parent, as with any mapping
  absent,  // nothing is mapped there (MADV_DONTFORK); the child's Region object is empty
};

enum class HugePages : std::uint8_t { system, always, never };

/// How supply() fills pages.
enum class Supply : std::uint8_t {
  copy,     // from a buffer
  move,     // the buffer's own pages change place (page-aligned private memory; contents of the
            // buffer are undefined after). Falls back to copy where the kernel cannot
  zero,     // zeroes; no buffer
  publish,  // the contents are in the backing already (written through a view): map them
};

struct RegionOptions {
  const char* name = "pagetrap";  // shown in /proc/PID/maps where the kernel can; at most 64 bytes
  Backing backing = Backing::anonymous;
  int file = -1;              // Backing::file: duplicated, stays the caller's; opened read-write
  off_t file_offset = 0;      // page-aligned
  void* address = nullptr;    // exactly there, or EEXIST if something is; nullptr: anywhere
  std::size_t alignment = 0;  // bytes, a power of two; 0: a page
  // The kinds that will be asked for. Empty: write_protected, unless `dirty` has the kernel resolve
  // write faults by itself (scan, ring). Guards need none.
  FaultSet faults{};
  Delivery delivery = Delivery::any;
  bool kernel_accesses = false;  // system calls that touch protected pages must be served too
  BackendId backend = BackendId::best;  // PAGETRAP_BACKEND=name in the environment overrides `best`
  unsigned handler_threads = 1;         // for delivery by handler threads
  bool busy_poll = false;               // handler threads spin: lower latency, a whole CPU each
  HugePages huge_pages = HugePages::system;
  DirtyForm dirty = DirtyForm::none;
  bool freezable = false;  // freeze() in time that grows with threads: takes a protection key
  bool liftable = false;   // lift() in constant time: private memory, or a memfd with minor faults
                           // in the faulting thread; 1 GiB aligned
  ForkPolicy on_fork = ForkPolicy::rearm;
};

/// A page's state as the region knows it.
enum class PageState : std::uint8_t { missing, evicted, none, read, read_write, guard };

/// Owns a range of addresses, its backing, and at most one handler. Move-only. Operations on a
/// moved-from or empty Region return Error{EBADF}.
///
/// Threads  Every operation may be called by any number of threads at once, also while others
///          fault. Calls that protect and unprotect the SAME page at once leave it in either state;
///          which one is the caller's to order. Destruction waits for handlers still running for
///          this region, and may not overlap other calls.
/// Signals  Those marked so may be called from a fault handler or any signal handler.
class PAGETRAP_API Region {
 public:
  Region() noexcept = default;
  ~Region();
  Region(Region&& other) noexcept;
  Region& operator=(Region&& other) noexcept;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  /// Reserve `size_bytes` (rounded up to pages) of address space. No memory is committed until
  /// touched (MAP_NORESERVE), so it may be larger than memory.
  ///
  /// Pages start `missing` if options.faults has missing (or `evicted` with minor only on memfd and
  /// file), else `read_write`.
  /// Errors  ENOTSUP: no backend covers the options (remedy says what is lacking); EEXIST;
  ///         ENOMEM: address space, RLIMIT_AS or vm.max_map_count; EINVAL: names the option.
  /// Cost    a few system calls; 1 byte of bookkeeping per page, committed when used.
  static Result<Region> create(std::size_t size_bytes, const RegionOptions& options = {});

  /// Take over memory that somebody else mapped: the handler, rights and dirty tracking apply to
  /// it. The mapping itself stays the caller's; it must outlive the Region and may not be unmapped
  /// or moved meanwhile. options.backing must say what it is: anonymous, or memfd/file for a shared
  /// mapping. Fixed at `range`; pages start `read_write`.
  static Result<Region> adopt(PageRange range, const RegionOptions& options = {});

  [[nodiscard]] bool valid() const noexcept PAGETRAP_SIGNAL_SAFE { return state_ != nullptr; }
  [[nodiscard]] PageRange range() const noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] std::byte* data() const noexcept PAGETRAP_SIGNAL_SAFE { return range().base; }
  [[nodiscard]] std::size_t size_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
    return range().size_bytes();
  }
  [[nodiscard]] BackendId backend() const noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] Capabilities can() const noexcept;
  [[nodiscard]] DirtyForm dirty_form() const noexcept PAGETRAP_SIGNAL_SAFE;

  /// TRAP: call `handler(self, fault)` for every fault in this region from now on. Null: faults go
  /// to whoever handled the signal before. Threads: any; a fault already under way may still be
  /// given to the old one. `self` is borrowed and must live until the Region ends or the handler is
  /// replaced and handlers under way have returned (quiesce()).
  Result<Done> on_fault(Handler handler, void* self) noexcept;

  /// Wait until no handler that began before this call is running for this region. Not from a
  /// handler of this region.
  void quiesce() noexcept;

  /// PROT1, PROTN: allow no more than `access` to `range`; later accesses fault. Contents stay.
  /// Returns  ENOTSUP if the backend cannot (capabilities), EINVAL if the range is not in the
  ///          region, ENOMEM: vm.max_map_count (mprotect backend): a PREFIX may then be changed.
  /// Signals  safe; on the pkey backend not inside a signal handler, fault handlers included
  ///          (EDEADLK there): it must reach all threads.
  /// Cost     one system call per range, and a TLB shootdown on each CPU running this process. On
  /// x86
  ///          up to 33 pages are flushed one by one: prefer 1 page or >= 34.
  /// Source   Appel & Li 1991 section 2; mprotect(2); UFFDIO_WRITEPROTECT in ioctl_userfaultfd(2).
  Result<Done> protect(PageRange range, Access access) noexcept PAGETRAP_SIGNAL_SAFE;
  /// The same for scattered ranges. Stops at the first error; earlier ranges stay protected.
  Result<Done> protect(std::span<const PageRange> ranges, Access access) noexcept
      PAGETRAP_SIGNAL_SAFE;

  /// UNPROT: allow reads and writes again, and wake threads waiting for `range`. Contents stay: a
  /// page that is evicted is mapped, a missing one becomes zeroes. But in a handler that was called
  /// because the page was protected, a page that is missing by now was emptied meanwhile, and stays
  /// missing: the access, if it is still wanted, faults again. Signals safe. Idempotent.
  Result<Done> unprotect(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;

  /// UNPROT with contents, in one step that is atomic for other threads (fill-then-publish): nobody
  /// sees a page half filled. Pages that are present already are left as they are, so losing a race
  /// against another thread is not an error.
  /// `from`    size_bytes of `range`; page-aligned for move; ignored for zero and publish.
  /// `access`  rights after: read_write, or read (the next write faults write_protected).
  /// Returns   how many pages this call filled (less than the range: the rest was present).
  /// Signals   safe.  Source  UFFDIO_COPY, _ZEROPAGE, _CONTINUE (5.13), _MOVE (6.8).
  Result<Pages> supply(PageRange range, const void* from, Supply how,
                       Access access = Access::read_write) noexcept PAGETRAP_SIGNAL_SAFE;

  /// Threads that sleep on a page of `range` because a handler thread said `resolved` for them
  /// before it was, leaving the page to somebody else, look again. Calls that resolve wake by
  /// themselves; this is for what a handler looks at to decide: change that first, then wake.
  /// Signals safe.
  Result<Done> wake(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;

  /// Take `range` out of this view: the next access faults (minor where the backing keeps the
  /// contents: memfd and file; missing for anonymous memory, whose contents are DROPPED).
  /// Signals safe.
  Result<Done> evict(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Drop the contents of `range`, in the backing too; the memory goes back to the kernel. The next
  /// access faults missing if the options have it, else finds zeroes. Signals safe.
  Result<Done> discard(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;
  /// The same for scattered, disjoint ranges. On userfaultfd and private memory in one system call
  /// for 64 of them, which interrupts other CPUs once (process_madvise of MADV_DONTNEED, 6.13; one
  /// call each before). After an error any of them may be dropped.
  Result<Done> discard(std::span<const PageRange> ranges) noexcept PAGETRAP_SIGNAL_SAFE;

  /// Take `pages` away together with their contents, in one step that is atomic for other threads:
  /// the memory itself appears at `place` of `to`, which must be missing there, and `pages` are
  /// missing from then on. A write is in what was taken, or it faults. Both regions: private memory
  /// served by the same userfaultfd (made with the same options).
  /// Returns  how many pages were taken, in order, before the first that could not.
  /// Errors   only if none was: EBUSY: shared with a fork()ed child, or pinned; ENOTSUP: not
  ///          userfaultfd, or before Linux 6.8; ENOENT: there is nothing to take; EAGAIN.
  /// Signals  safe.  Source  UFFDIO_MOVE in ioctl_userfaultfd(2).
  Result<Pages> move_out(PageRange pages, Region& to, PageRange place) noexcept
      PAGETRAP_SIGNAL_SAFE;

  /// Make `range` a guard: any access faults no_access; contents are dropped. With
  /// MADV_GUARD_INSTALL (6.13) this costs no mapping; before, PROT_NONE, refused with ENOMEM beyond
  /// half of vm.max_map_count so that malloc and pthread_create go on working. Signals safe.
  Result<Done> guard(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Undo guard(): zeroes, read_write.
  Result<Done> unguard(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;

  /// DIRTY: append to `out` the pages of `range` written since the last call or arm_dirty(), as
  /// sorted disjoint ranges, and arm them again. Exact: a write that completes before the call is
  /// reported by it, one that begins after it returns by a later call, one during it by at least
  /// one of them. A region is clean when it is made; pages supplied, discarded or evicted count as
  /// written, and so does all of a memory object, once, in a fork()ed child. Needs options.dirty.
  /// Returns  the number of pages appended. On an error `out` keeps what was found so far.
  /// Threads  any, but calls exclude each other.  Signals  not safe (allocates).
  /// Cost     ring: 1.5 us for each page written, or what scan takes when that is less; scan: 1 ns
  ///          for each page of `range`.
  /// Source   DIRTY in Appel & Li 1991; PAGEMAP_SCAN (6.7); docs/design/vm.md.
  Result<Pages> dirty(PageRange range, std::vector<PageRange>& out);
  /// The same, but pages may be left as they are where that is cheaper (ring: 0.1 us a page). Then
  /// `armed` is false, and later writes to them are not found until arm_dirty(); and pages may be
  /// named that an earlier call has named.
  struct FoundDirty {
    Pages pages;
    bool armed = true;
  };
  Result<FoundDirty> find_dirty(PageRange range, std::vector<PageRange>& out);
  /// Declare `range` clean and track writes from here. Cost  about 15 ns per page of 4 KiB, and 8
  /// bytes of page table for pages that are not there yet.
  Result<Done> arm_dirty(PageRange range);

  /// MAP2: a second view of the same pages with rights of its own. The view ignores protect() and
  /// evict() of the region. Needs Backing::memfd or file; for private memory see window.hpp.
  Result<View> map_twice(Access access);

  /// Take every thread's right to write (leave = read) or access (none) the region away, in time
  /// that grows with threads and not with pages. Needs options.freezable; see freeze.hpp for what
  /// frozen threads do. `freeze` returns when no thread can write any more.
  Result<Done> freeze(Access leave = Access::read);
  Result<Done> thaw() noexcept;
  /// Give `part` of a frozen region back, the rest stays frozen. Needs a protection key (ENOTSUP
  /// without: use protect() and unprotect() instead). Rights of pages of `part` may not be changed
  /// meanwhile. Signals safe.  Cost  8 to 70 us, and the same again in the thaw of the whole, which
  /// gives the key back to `part`.
  Result<Done> thaw(PageRange part) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] bool frozen() const noexcept PAGETRAP_SIGNAL_SAFE;

  /// Move the page tables of the whole region, or of its first `front` pages, into a private window
  /// in constant time: these pages are all `missing`, the window holds the contents. Needs
  /// options.liftable; see lift.hpp.
  Result<Lift> lift();
  Result<Lift> lift(Pages front);
  /// The same into addresses that the caller has reserved: private memory of the region's size,
  /// aligned to 1 GiB, whose contents are lost. Private regions whose handler asks for missing
  /// faults; it is not waited for. See Lift::fill() and Lift::finish().
  Result<Lift> lift_into(std::byte* window);

  /// Access one byte now, in user mode, so that a fault it would raise is taken here and not inside
  /// a system call that is about to use the page (EFAULT). Reads it, or rewrites it with its own
  /// value atomically. On the null backend this is how faults are simulated. Returns false if a
  /// null-backend handler declined.
  bool touch(const void* address, bool write = false) noexcept PAGETRAP_SIGNAL_SAFE;

  /// What was last asked for the page. Advisory under concurrent changes. Signals safe.
  [[nodiscard]] PageState page_state(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE;

 private:
  friend struct RegionState;
  friend class Lift;
  friend class Window;
  explicit Region(RegionState* state) noexcept : state_(state) {}
  void end() noexcept;
  Error thaw_locked() noexcept;
  RegionState* state_ = nullptr;
};

}  // namespace v0
}  // namespace pagetrap
