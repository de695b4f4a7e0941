// ASSUMES -Wfunction-effects is waived here and nowhere else (see the header).
#include "sys/signal_safe_calls.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>

#include "sys/injection.hpp"
#include "sys/kernel_abi.hpp"
#include "sys/raw_syscall.hpp"
#include "sys/thread_state.hpp"

#if defined(__clang__) && __clang_major__ >= 20
#pragma clang diagnostic ignored "-Wfunction-effects"
#endif

namespace pagetrap::sys {
namespace {

std::uint64_t address_of(const void* p) noexcept { return reinterpret_cast<std::uintptr_t>(p); }

uffdio_range as_uffdio(PageRange range) noexcept {
  return {address_of(range.base), range.size_bytes()};
}

int raw_ioctl(int descriptor, unsigned long request, void* argument) noexcept {
  return static_cast<int>(-raw_syscall3(SYS_ioctl, static_cast<unsigned long>(descriptor), request,
                                        reinterpret_cast<unsigned long>(argument)));
}

// Runs one of the filling ioctls; `count` is the kernel's own progress field.
template <class Argument>
int fill(int uffd, unsigned long request, Argument& argument, const __s64& count,
         std::size_t& done) noexcept {
  const int error = raw_ioctl(uffd, request, &argument);
  done = count > 0 ? static_cast<std::size_t>(count) : 0;
  return error;
}

int call(long result) noexcept { return result < 0 ? errno : 0; }

}  // namespace

constinit thread_local ThreadState thread_state{};

int* ErrnoSaver::errno_address() noexcept PAGETRAP_SIGNAL_SAFE { return &errno; }

[[gnu::hot]] int change_protection(PageRange range, int prot) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const int error = injected(Call::mprotect)) return error;
  return static_cast<int>(-raw_syscall3(SYS_mprotect, address_of(range.base), range.size_bytes(),
                                        static_cast<unsigned long>(prot)));
}

int change_protection_and_key(PageRange range, int prot, int key) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  return call(::pkey_mprotect(range.base, range.size_bytes(), prot, key));
}

int advise(PageRange range, int advice) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const int error = injected(Call::madvise)) return error;
  return static_cast<int>(-raw_syscall3(SYS_madvise, address_of(range.base), range.size_bytes(),
                                        static_cast<unsigned long>(advice)));
}

namespace {

constexpr std::size_t kDropBatch = 64;  // 1 KiB of a signal stack

// Bytes advised, or -errno.
long advise_batch(int self, std::span<const PageRange> ranges, int advice) noexcept {
  if (const int error = injected(Call::process_madvise)) return -error;
  std::array<iovec, kDropBatch> vector;
  for (std::size_t i = 0; i < ranges.size(); ++i)
    vector[i] = {ranges[i].base, ranges[i].size_bytes()};
  const ErrnoSaver errno_saver;
  const long done = ::syscall(SYS_process_madvise, self, vector.data(), ranges.size(), advice, 0);
  return done < 0 ? -errno : done;
}

}  // namespace

namespace {

constexpr int kThisProcess = -10001;  // PIDFD_SELF_THREAD_GROUP, 6.14

/// How many of the ranges, from the first on, are done. Where it stopped inside of one, doing its
/// front twice is no harm.
std::size_t advise_together(int self, std::span<const PageRange> ranges, int advice) noexcept {
  std::size_t next = 0;
  while (ranges.size() - next > 1) {
    const auto batch = ranges.subspan(next, std::min(kDropBatch, ranges.size() - next));
    long done = advise_batch(self, batch, advice);
    if (done <= 0) break;  // not before 6.13, not through this sandbox
    while (next < ranges.size() && done >= static_cast<long>(ranges[next].size_bytes()))
      done -= static_cast<long>(ranges[next++].size_bytes());
    if (done > 0) break;
  }
  return next;
}

int advise_each(std::span<const PageRange> ranges, int advice) noexcept {
  for (const PageRange& range : ranges)
    if (const int error = advise(range, advice)) return error;
  return 0;
}

}  // namespace

int drop_all(int self, std::span<const PageRange> ranges) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t done = self >= 0 ? advise_together(self, ranges, MADV_DONTNEED) : 0;
  return advise_each(ranges.subspan(done), MADV_DONTNEED);
}

int guard_all(std::span<const PageRange> ranges) noexcept PAGETRAP_SIGNAL_SAFE {
  // A marker over a page that is there flushes the TLB for itself; dropped together they are
  // flushed once, and markers where nothing is flush nothing.
  static_cast<void>(advise_together(kThisProcess, ranges, MADV_DONTNEED));
  const std::size_t done = advise_together(kThisProcess, ranges, MADV_GUARD_INSTALL);
  return advise_each(ranges.subspan(done), MADV_GUARD_INSTALL);
}

int punch_hole(int descriptor, std::uint64_t offset, std::size_t length) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  return call(::fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          static_cast<off_t>(offset), static_cast<off_t>(length)));
}

int move_page_tables(PageRange from, std::byte* to) noexcept PAGETRAP_SIGNAL_SAFE {
  if (const int error = injected(Call::mremap)) return error;
  const ErrnoSaver errno_saver;
  void* const moved = ::mremap(from.base, from.size_bytes(), from.size_bytes(),
                               MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED, to);
  return moved == MAP_FAILED ? errno : 0;
}

bool in_core(PageRange page) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  unsigned char present = 0;
  return ::mincore(page.base, page_size(), &present) == 0 && (present & 1) != 0;
}

int has_page(int pagemap, const void* page) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  std::uint64_t entry = 0;
  const std::uint64_t offset = (address_of(page) >> page_shift()) * sizeof entry;
  const ssize_t got = ::pread(pagemap, &entry, sizeof entry, static_cast<off_t>(offset));
  if (got != sizeof entry) return got < 0 ? -errno : -EIO;
  // SOURCE Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped.
  return entry >> 62 != 0 ? 1 : 0;
}

namespace {

constexpr std::size_t kScanBatch = 64;  // 1.5 KiB of a signal stack

// The runs of one read of the page map.
int read_page_map(int pagemap, PageRange range, std::span<PageRange> out, std::size_t& found,
                  std::byte*& scanned) noexcept {
  std::array<std::uint64_t, 2 * kScanBatch> entries;
  const std::size_t wanted =
      std::min({entries.size(), range.length.count(), 2 * out.size()}) * sizeof entries[0];
  const ssize_t got =
      ::pread(pagemap, entries.data(), wanted,
              static_cast<off_t>((address_of(range.base) >> page_shift()) * sizeof entries[0]));
  if (got < static_cast<ssize_t>(sizeof entries[0])) return got < 0 ? errno : EIO;
  const std::size_t count = static_cast<std::size_t>(got) / sizeof entries[0];
  bool joins = false;
  for (std::size_t i = 0; i < count; ++i) {
    const bool there = entries[i] >> 62 != 0;
    if (there && joins) {
      out[found - 1].length = Pages{out[found - 1].length.count() + 1};
    } else if (there) {
      out[found++] = {range.base + (i << page_shift()), Pages{1}};
    }
    joins = there;
  }
  scanned = range.base + (count << page_shift());
  return 0;
}

}  // namespace

int scan_pages(int pagemap, PageRange range, PagesThat which, std::span<PageRange> out,
               std::size_t& found, std::byte*& scanned) noexcept PAGETRAP_SIGNAL_SAFE {
  found = 0;
  scanned = range.base;
  if (const int error = injected(Call::pagemap_scan)) return error;
  if (out.empty() || range.empty()) return EINVAL;
  const ErrnoSaver errno_saver;
  std::array<page_region, kScanBatch> runs;
  pm_scan_arg request{};
  request.size = sizeof request;
  request.start = address_of(range.base);
  request.end = address_of(range.end());
  request.vec = address_of(runs.data());
  request.vec_len = std::min({runs.size(), out.size(), range.length.count()});
  request.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
  request.return_mask = PAGE_IS_PRESENT;
  if (which != PagesThat::are_there) request.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
  if (which == PagesThat::were_written) request.category_mask = PAGE_IS_WRITTEN;
  const int count = ::ioctl(pagemap, PAGEMAP_SCAN, &request);
  if (count < 0) {
    const bool unknown = errno == ENOTTY || errno == EINVAL;
    if (!unknown || which != PagesThat::are_there) return errno;
    return read_page_map(pagemap, range, out, found, scanned);
  }
  for (int i = 0; i < count; ++i) {
    const page_region& run = runs[static_cast<std::size_t>(i)];
    out[found++] = {reinterpret_cast<std::byte*>(run.start),
                    Pages{(run.end - run.start) >> page_shift()}};
  }
  scanned = reinterpret_cast<std::byte*>(request.walk_end);
  return 0;
}

[[gnu::hot]] int uffd_copy(int uffd, PageRange to, const void* from, std::uint64_t mode,
                           std::size_t& done) noexcept PAGETRAP_SIGNAL_SAFE {
  done = 0;
  if (const int error = injected(Call::uffd_copy)) return error;
  uffdio_copy argument{address_of(to.base), address_of(from), to.size_bytes(), mode, 0};
  return fill(uffd, UFFDIO_COPY, argument, argument.copy, done);
}

int uffd_zero(int uffd, PageRange to, std::size_t& done) noexcept PAGETRAP_SIGNAL_SAFE {
  done = 0;
  if (const int error = injected(Call::uffd_zero)) return error;
  uffdio_zeropage argument{as_uffdio(to), 0, 0};
  return fill(uffd, UFFDIO_ZEROPAGE, argument, argument.zeropage, done);
}

[[gnu::hot]] int uffd_continue(int uffd, PageRange to, std::uint64_t mode,
                               std::size_t& done) noexcept PAGETRAP_SIGNAL_SAFE {
  done = 0;
  if (const int error = injected(Call::uffd_continue)) return error;
  uffdio_continue argument{as_uffdio(to), mode, 0};
  return fill(uffd, UFFDIO_CONTINUE, argument, argument.mapped, done);
}

int uffd_move(int uffd, PageRange to, const void* from, std::uint64_t mode,
              std::size_t& done) noexcept PAGETRAP_SIGNAL_SAFE {
  done = 0;
  if (const int error = injected(Call::uffd_move)) return error;
  uffdio_move argument{address_of(to.base), address_of(from), to.size_bytes(), mode, 0};
  return fill(uffd, UFFDIO_MOVE, argument, argument.move, done);
}

[[gnu::hot]] int uffd_write_protect(int uffd, PageRange range, bool on) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (const int error = injected(Call::uffd_write_protect)) return error;
  uffdio_writeprotect argument{as_uffdio(range), on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
  return raw_ioctl(uffd, UFFDIO_WRITEPROTECT, &argument);
}

int uffd_wake(int uffd, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  uffdio_range argument = as_uffdio(range);
  return raw_ioctl(uffd, UFFDIO_WAKE, &argument);
}

int uffd_poison(int uffd, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  uffdio_poison argument{as_uffdio(range), 0, 0};
  return raw_ioctl(uffd, UFFDIO_POISON, &argument);
}

int read_at(int descriptor, std::span<const Buffer> buffers, std::uint64_t wanted,
            std::uint64_t offset, std::uint64_t& got) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  got = 0;
  while (got < wanted) {
    if (const int error = injected(Call::pread)) return error;
    // What is left of the buffers, no more than is wanted.
    std::array<iovec, 16> vector;
    std::size_t count = 0;
    std::uint64_t begin = 0;
    for (const Buffer& buffer : buffers) {
      const std::uint64_t end = std::min<std::uint64_t>(begin + buffer.size, wanted);
      const std::uint64_t from = std::max(begin, got);
      if (from < end && count < vector.size())
        vector[count++] = {buffer.base + (from - begin), static_cast<std::size_t>(end - from)};
      begin += buffer.size;
    }
    const ssize_t read = ::preadv(descriptor, vector.data(), static_cast<int>(count),
                                  static_cast<off_t>(offset + got));
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) return errno;
    if (read == 0) break;
    got += static_cast<std::uint64_t>(read);
  }
  return 0;
}

int pwrite_all(int descriptor, const void* from, std::size_t length, std::uint64_t offset) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (const int error = injected(Call::pwrite)) return error;
  const ErrnoSaver errno_saver;
  const auto* next = static_cast<const char*>(from);
  while (length != 0) {
    const ssize_t written = ::pwrite(descriptor, next, length, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    if (written == 0) return EIO;
    next += written;
    length -= static_cast<std::size_t>(written);
    offset += static_cast<std::uint64_t>(written);
  }
  return 0;
}

int pread_all(int descriptor, void* to, std::size_t length, std::uint64_t offset) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (const int error = injected(Call::pread)) return error;
  const ErrnoSaver errno_saver;
  auto* next = static_cast<char*>(to);
  while (length != 0) {
    const ssize_t read = ::pread(descriptor, next, length, static_cast<off_t>(offset));
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) return errno;
    if (read == 0) return EIO;
    next += read;
    length -= static_cast<std::size_t>(read);
    offset += static_cast<std::uint64_t>(read);
  }
  return 0;
}

int open_to_read(const char* path, int& descriptor) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  do {
    descriptor = ::open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor < 0 ? errno : 0;
}

void close_file(int descriptor) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  // Not close(): a preloaded library may have its own, which looks at who calls.
  ::syscall(SYS_close, descriptor);
}

int write_all(int descriptor, const char* from, std::size_t length) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  while (length != 0) {
    const ssize_t written = ::write(descriptor, from, length);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    from += written;
    length -= static_cast<std::size_t>(written);
  }
  return 0;
}

pid_t thread_id() noexcept PAGETRAP_SIGNAL_SAFE {
  return static_cast<pid_t>(::syscall(SYS_gettid));
}
pid_t process_id() noexcept PAGETRAP_SIGNAL_SAFE { return ::getpid(); }
// SOURCE fs/proc/base.c, proc_task_getattr(): a link for each thread, beside the two of an empty
// directory.
unsigned threads_of_process() noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  struct stat directory {};
  if (::stat("/proc/self/task", &directory) != 0 || directory.st_nlink < 3) return 0;
  return static_cast<unsigned>(directory.st_nlink - 2);
}
void yield() noexcept PAGETRAP_SIGNAL_SAFE { ::sched_yield(); }

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                std::uint64_t nanoseconds) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  const timespec limit{static_cast<time_t>(nanoseconds / 1'000'000'000),
                       static_cast<long>(nanoseconds % 1'000'000'000)};
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nanoseconds != 0 ? &limit : nullptr,
            nullptr, 0);
}

void futex_wake_all(std::atomic<std::uint32_t>& word) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

int signal_thread(pid_t thread, int signal, std::uint64_t value) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  siginfo_t info{};
  info.si_signo = signal;
  info.si_code = SI_QUEUE;
  info.si_pid = ::getpid();
  info.si_value.sival_ptr = reinterpret_cast<void*>(value);
  return call(::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), thread, signal, &info));
}

int thread_kill(pid_t thread, int signal) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  return call(::syscall(SYS_tgkill, ::getpid(), thread, signal));
}

// The raw call: glibc's pthread_sigmask keeps its own internal signals out of the set, and so do we
// by never blocking them for longer than a fault takes.
void change_signal_mask(int how, const sigset_t& set, sigset_t* old) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  constexpr std::size_t kKernelSetBytes = 8;
  ::syscall(SYS_rt_sigprocmask, how, &set, old, kKernelSetBytes);
}

int alternate_stack(stack_t& found) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  return call(::sigaltstack(nullptr, &found));
}

int set_signal_action(int signal, const struct sigaction& action) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  return call(::sigaction(signal, &action, nullptr));
}

void call_foreign_handler(const struct sigaction& action, int signal, siginfo_t* info,
                          void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    action.sa_sigaction(signal, info, context);
  } else {
    action.sa_handler(signal);
  }
}

void call_unproved(void (*work)(void* self), void* self) noexcept PAGETRAP_SIGNAL_SAFE {
  work(self);
}

bool read_own_memory(const void* from, void* to, std::size_t length) noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  const iovec local{to, length};
  const iovec remote{const_cast<void*>(from), length};
  return ::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0) == static_cast<ssize_t>(length);
}

std::uint64_t monotonic_nanoseconds() noexcept PAGETRAP_SIGNAL_SAFE {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

AllSignalsBlocked::AllSignalsBlocked(But but) noexcept PAGETRAP_SIGNAL_SAFE {
  sigset_t all;
  ::sigfillset(&all);
  if (but == But::faults) {
    for (const int raised : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) ::sigdelset(&all, raised);
  }
  change_signal_mask(SIG_BLOCK, all, &old_);
}
AllSignalsBlocked::~AllSignalsBlocked() PAGETRAP_SIGNAL_SAFE {
  if (restores_) change_signal_mask(SIG_SETMASK, old_, nullptr);
}

}  // namespace pagetrap::sys
