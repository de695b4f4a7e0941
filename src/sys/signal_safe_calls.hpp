// The system calls of the fault path. This is the one place where the compiler's proof of signal
// safety (-Wfunction-effects) is waived: signal_safe_calls.cpp defines these over raw system calls,
// each of which is either listed in signal-safety(7) or a system call without user-space state.
//
// Convention: 0 or an errno value is returned, and errno itself is left alone.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap::sys {

/// Restores errno at the end of a scope: a handler may run between a system call and the test of
/// its errno.
class ErrnoSaver {
 public:
  ErrnoSaver() noexcept PAGETRAP_SIGNAL_SAFE : where_(errno_address()), saved_(*where_) {}
  ~ErrnoSaver() PAGETRAP_SIGNAL_SAFE { *where_ = saved_; }
  ErrnoSaver(const ErrnoSaver&) = delete;
  ErrnoSaver& operator=(const ErrnoSaver&) = delete;

 private:
  static int* errno_address() noexcept PAGETRAP_SIGNAL_SAFE;
  int* where_;
  int saved_;
};

// --- mappings ---------------------------------------------------------------------------------
PAGETRAP_API int change_protection(PageRange range, int prot) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API int change_protection_and_key(PageRange range, int prot, int key) noexcept
    PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API int advise(PageRange range, int advice) noexcept PAGETRAP_SIGNAL_SAFE;
/// MADV_DONTNEED of scattered ranges in one call (process_madvise(2) on this process, 6.13), which
/// interrupts other CPUs once instead of once for each range. `self`: a pidfd of this process, or
/// -1. At most 64 ranges a system call; one madvise for each where the kernel refuses.
PAGETRAP_API int drop_all(int self, std::span<const PageRange> ranges) noexcept
    PAGETRAP_SIGNAL_SAFE;
/// MADV_GUARD_INSTALL of scattered ranges, in one call for 64 of them where process_madvise(2)
/// takes this process without a pidfd (6.14).
PAGETRAP_API int guard_all(std::span<const PageRange> ranges) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API int punch_hole(int descriptor, std::uint64_t offset, std::size_t length) noexcept
    PAGETRAP_SIGNAL_SAFE;
/// Moves the page tables of `from` to `to`, replacing what is mapped there; `from` stays mapped,
/// and empty (MREMAP_DONTUNMAP, 5.7). With EVENT_REMAP it returns when the event has been read.
PAGETRAP_API int move_page_tables(PageRange from, std::byte* to) noexcept PAGETRAP_SIGNAL_SAFE;
/// Whether the page is in its file's page cache (mincore(2)). False on error.
PAGETRAP_API bool in_core(PageRange page) noexcept PAGETRAP_SIGNAL_SAFE;
/// Whether /proc/self/pagemap has the page mapped or swapped out: 1, 0, or -errno.
PAGETRAP_API int has_page(int pagemap, const void* page) noexcept PAGETRAP_SIGNAL_SAFE;

/// What scan_pages() looks for.
enum class PagesThat : std::uint8_t {
  are_there,         // mapped or swapped out; a write-protect mark without a page looks so too
  are_there_to_arm,  // the same, and arms them. 6.7
  were_written       // those of them without a mark: written since they were armed. Arms them. 6.7
};
/// Puts the first runs of such pages of `range` into `out`, at most 64 a call: `found` of them, and
/// all there are before `scanned`. Before 6.7 (are_there) by reading the page map entry by entry.
PAGETRAP_API int scan_pages(int pagemap, PageRange range, PagesThat which, std::span<PageRange> out,
                            std::size_t& found, std::byte*& scanned) noexcept PAGETRAP_SIGNAL_SAFE;

// --- userfaultfd ------------------------------------------------------------------------------
// `done` is set to the bytes completed, also on error: these calls stop at the first page that is
// already present (EEXIST) after doing a prefix. The kernel reports "none done" as a negative
// errno in its count field (EAGAIN with -11); that never reaches the caller.
PAGETRAP_API int uffd_copy(int uffd, PageRange to, const void* from, std::uint64_t mode,
                           std::size_t& done) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API int uffd_zero(int uffd, PageRange to, std::size_t& done) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API int uffd_continue(int uffd, PageRange to, std::uint64_t mode,
                               std::size_t& done) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API int uffd_move(int uffd, PageRange to, const void* from, std::uint64_t mode,
                           std::size_t& done) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API int uffd_write_protect(int uffd, PageRange range, bool on) noexcept
    PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API int uffd_wake(int uffd, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API int uffd_poison(int uffd, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;

// --- files ------------------------------------------------------------------------------------
/// A part of what read_at() fills.
struct Buffer {
  std::byte* base = nullptr;
  std::size_t size = 0;
};
/// Reads up to `wanted` bytes at `offset` into `buffers`, at most 16, in order. `got`: how many
/// there were, fewer at the end of the file only.
PAGETRAP_API int read_at(int descriptor, std::span<const Buffer> buffers, std::uint64_t wanted,
                         std::uint64_t offset, std::uint64_t& got) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API int pwrite_all(int descriptor, const void* from, std::size_t length,
                            std::uint64_t offset) noexcept PAGETRAP_SIGNAL_SAFE;
/// Opens `path` for reading, O_CLOEXEC.
PAGETRAP_API int open_to_read(const char* path, int& descriptor) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API void close_file(int descriptor) noexcept PAGETRAP_SIGNAL_SAFE;
/// EIO: the file ends before `length`.
PAGETRAP_API int pread_all(int descriptor, void* to, std::size_t length,
                           std::uint64_t offset) noexcept PAGETRAP_SIGNAL_SAFE;
/// Writes everything to `descriptor`; signal-safe reports.
PAGETRAP_API int write_all(int descriptor, const char* from, std::size_t length) noexcept
    PAGETRAP_SIGNAL_SAFE;

// --- threads and signals ----------------------------------------------------------------------
PAGETRAP_API pid_t thread_id() noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API pid_t process_id() noexcept PAGETRAP_SIGNAL_SAFE;
/// How many threads this process has, workers of the kernel's (io_uring) included; 0: no /proc.
PAGETRAP_API unsigned threads_of_process() noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API void yield() noexcept PAGETRAP_SIGNAL_SAFE;
/// Waits while `word` is `expected`, at most `nanoseconds` (0: without limit). Returns on wake,
/// timeout, a signal or a changed word alike: the caller looks again.
PAGETRAP_API void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                             std::uint64_t nanoseconds = 0) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API void futex_wake_all(std::atomic<std::uint32_t>& word) noexcept PAGETRAP_SIGNAL_SAFE;
/// Queues `signal` with `value` to one thread of this process. EAGAIN: RLIMIT_SIGPENDING; ESRCH:
/// the thread is gone.
PAGETRAP_API int signal_thread(pid_t thread, int signal, std::uint64_t value) noexcept
    PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API int thread_kill(pid_t thread, int signal) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API void change_signal_mask(int how, const sigset_t& set, sigset_t* old) noexcept
    PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API int set_signal_action(int signal, const struct sigaction& action) noexcept
    PAGETRAP_SIGNAL_SAFE;
/// sigaltstack(2) of this thread, as it is.
PAGETRAP_API int alternate_stack(stack_t& found) noexcept PAGETRAP_SIGNAL_SAFE;
/// Calls a handler that another library installed: whatever it does is its own affair.
PAGETRAP_API void call_foreign_handler(const struct sigaction& action, int signal, siginfo_t* info,
                                       void* context) noexcept PAGETRAP_SIGNAL_SAFE;

/// Calls `work(self)` although the compiler cannot prove it signal-safe. Each caller says why it is
/// where it is called.
PAGETRAP_API void call_unproved(void (*work)(void* self), void* self) noexcept PAGETRAP_SIGNAL_SAFE;

/// Copies from this process's own memory; false where some of it cannot be read.
PAGETRAP_API bool read_own_memory(const void* from, void* to, std::size_t length) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// CLOCK_MONOTONIC in nanoseconds (vDSO).
PAGETRAP_API std::uint64_t monotonic_nanoseconds() noexcept PAGETRAP_SIGNAL_SAFE;

/// For calls that the kernel refuses with EAGAIN until another thread has done its part.
class Patience {
 public:
  /// Gives the CPU to others. False when that has gone on for ten seconds.
  bool wait() noexcept PAGETRAP_SIGNAL_SAFE {
    constexpr std::uint64_t kLongest = 10'000'000'000;
    const std::uint64_t now = monotonic_nanoseconds();
    if (since_ == 0) since_ = now;
    yield();
    return now - since_ < kLongest;
  }

 private:
  std::uint64_t since_ = 0;
};

/// Blocks signals of this thread for a scope, so that no handler can interrupt it and fault: every
/// signal, or all but those that the thread's own instructions raise.
class AllSignalsBlocked {
 public:
  enum class But { none, faults };
  explicit AllSignalsBlocked(But but = But::none) noexcept PAGETRAP_SIGNAL_SAFE;
  ~AllSignalsBlocked() PAGETRAP_SIGNAL_SAFE;
  /// They stay blocked: the return from the signal handler that this thread is in restores what was
  /// before, and saves a system call.
  void leave_to_sigreturn() noexcept PAGETRAP_SIGNAL_SAFE { restores_ = false; }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;

 private:
  sigset_t old_;
  bool restores_ = true;
};

}  // namespace pagetrap::sys
