// What a kernel really does, found by raw system calls: the oracle for `pagetrap doctor`.
//
// WHY it shares no line with src/: a wrong constant or a wrong idea in the library's own probe
// would otherwise agree with itself. Everything here is tried and its effect looked at; a feature
// bit that the kernel merely announces is not taken for an answer.
//
// Output: one line per fact, "fact NAME yes|no [note]", and "facts done" at the end.
#include <fcntl.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>

namespace {

constexpr std::size_t kPage = 4096;

// Newer than Debian 12's headers. SOURCE include/uapi/linux/{userfaultfd,fs,mman}.h of
// Linux 6.12/6.13.
constexpr std::uint64_t kUserModeOnly = 1;
constexpr std::uint64_t kFeatureSigbus = 1 << 7;
constexpr std::uint64_t kFeaturePagefaultWp = 1 << 0;
constexpr std::uint64_t kFeatureEventRemap = 1 << 2;
constexpr std::uint64_t kFeatureMinorShmem = 1 << 10;
constexpr std::uint64_t kFeatureExactAddress = 1 << 11;
constexpr std::uint64_t kFeatureWpShmem = 1 << 12;
constexpr std::uint64_t kFeatureWpUnpopulated = 1 << 13;
constexpr std::uint64_t kFeatureWpAsync = 1 << 15;
constexpr std::uint64_t kFeatureMove = 1 << 16;
constexpr int kMadvGuardInstall = 102;
constexpr int kMadvPopulateWrite = 23;
constexpr long kSysMseal = 462;
constexpr std::uint64_t kPageIsWritten = 1 << 1;

struct MoveArguments {
  std::uint64_t destination, source, length, mode;
  std::int64_t moved;
};
struct ScanArguments {
  std::uint64_t size, flags, start, end, walk_end, vector, vector_length, max_pages;
  std::uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct ScanRange {
  std::uint64_t start, end, categories;
};

void fact(const char* name, bool holds, const char* note = "") {
  std::printf("fact %s %s%s%s\n", name, holds ? "yes" : "no", *note != 0 ? " " : "", note);
  std::fflush(stdout);
}

// --- Touching a page and seeing which signal comes.

sigjmp_buf g_back;
volatile sig_atomic_t g_signal;
volatile sig_atomic_t g_code;

void on_signal(int signal, siginfo_t* info, void*) {
  g_signal = signal;
  g_code = info->si_code;
  siglongjmp(g_back, 1);
}

/// The signal that an access raises, 0 if it succeeds.
int access_raises(volatile char* address, bool write) {
  g_signal = 0;
  if (sigsetjmp(g_back, 1) == 0) {
    if (write) {
      *address = 1;
    } else {
      (void)*address;
    }
  }
  return g_signal;
}

char* fresh_pages(std::size_t count, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int file = -1) {
  void* at = mmap(nullptr, count * kPage, PROT_READ | PROT_WRITE, flags, file, 0);
  if (at == MAP_FAILED) {
    std::perror("mmap");
    _exit(1);
  }
  return static_cast<char*>(at);
}

// --- userfaultfd

/// A descriptor with `features` accepted, or -1.
int open_uffd(std::uint64_t features, std::uint64_t open_flags = kUserModeOnly) {
  const int fd = static_cast<int>(syscall(SYS_userfaultfd, open_flags | O_CLOEXEC));
  if (fd < 0) return -1;
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = features;
  if (ioctl(fd, UFFDIO_API, &api) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

bool watch(int fd, void* at, std::size_t count, std::uint64_t mode) {
  uffdio_register range{};
  range.range.start = reinterpret_cast<std::uintptr_t>(at);
  range.range.len = count * kPage;
  range.mode = mode;
  return ioctl(fd, UFFDIO_REGISTER, &range) == 0;
}

bool write_protect(int fd, void* at, std::size_t count, bool on) {
  uffdio_writeprotect range{};
  range.range.start = reinterpret_cast<std::uintptr_t>(at);
  range.range.len = count * kPage;
  range.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
  return ioctl(fd, UFFDIO_WRITEPROTECT, &range) == 0;
}

bool missing_trap() {
  char* const pages = fresh_pages(1);
  const int fd = open_uffd(kFeatureSigbus);
  if (fd < 0 || !watch(fd, pages, 1, UFFDIO_REGISTER_MODE_MISSING)) return false;
  if (access_raises(pages, true) != SIGBUS) return false;
  char* const filled = fresh_pages(1);
  filled[7] = 42;
  uffdio_copy copy{};
  copy.dst = reinterpret_cast<std::uintptr_t>(pages);
  copy.src = reinterpret_cast<std::uintptr_t>(filled);
  copy.len = kPage;
  return ioctl(fd, UFFDIO_COPY, &copy) == 0 && access_raises(pages, false) == 0 && pages[7] == 42;
}

void* touch_from_thread(void* address) {
  *static_cast<volatile char*>(address) = 1;
  return nullptr;
}

/// A message names the byte that was touched, not only its page.
bool exact_address() {
  constexpr std::size_t kOffset = 123;
  char* const pages = fresh_pages(1);
  const int fd = open_uffd(kFeatureExactAddress);
  if (fd < 0 || !watch(fd, pages, 1, UFFDIO_REGISTER_MODE_MISSING)) return false;
  pthread_t toucher{};
  if (pthread_create(&toucher, nullptr, touch_from_thread, pages + kOffset) != 0) return false;
  uffd_msg message{};
  const bool exact =
      read(fd, &message, sizeof message) == sizeof message &&
      message.arg.pagefault.address == reinterpret_cast<std::uintptr_t>(pages + kOffset);
  uffdio_zeropage zero{};
  zero.range.start = reinterpret_cast<std::uintptr_t>(pages);
  zero.range.len = kPage;
  ioctl(fd, UFFDIO_ZEROPAGE, &zero);
  pthread_join(toucher, nullptr);
  return exact;
}

bool minor_trap() {
  const int file = memfd_create("facts", 0);
  if (file < 0 || ftruncate(file, kPage) != 0) return false;
  char* const pages = fresh_pages(1, MAP_SHARED, file);
  char* const other_view = fresh_pages(1, MAP_SHARED, file);
  other_view[7] = 42;
  const int fd = open_uffd(kFeatureSigbus | kFeatureMinorShmem);
  if (fd < 0 || !watch(fd, pages, 1, UFFDIO_REGISTER_MODE_MINOR)) return false;
  if (access_raises(pages, false) != SIGBUS) return false;
  uffdio_continue resume{};
  resume.range.start = reinterpret_cast<std::uintptr_t>(pages);
  resume.range.len = kPage;
  return ioctl(fd, UFFDIO_CONTINUE, &resume) == 0 && pages[7] == 42;
}

/// Whether a write-protected page traps a write. The page is populated before, or never was.
bool write_protect_trap(char* pages, std::uint64_t features, bool populated) {
  if (populated) pages[0] = 1;
  const int fd = open_uffd(kFeatureSigbus | kFeaturePagefaultWp | features);
  if (fd < 0 || !watch(fd, pages, 1, UFFDIO_REGISTER_MODE_WP)) return false;
  if (!write_protect(fd, pages, 1, true)) return false;
  if (access_raises(pages, true) != SIGBUS) return false;
  return write_protect(fd, pages, 1, false) && access_raises(pages, true) == 0;
}

char* memfd_pages(std::size_t count) {
  const int file = memfd_create("facts", 0);
  if (file < 0 || ftruncate(file, static_cast<off_t>(count * kPage)) != 0) _exit(1);
  return fresh_pages(count, MAP_SHARED, file);
}

long scan_written(char* pages, std::size_t count, ScanRange* found, std::size_t capacity) {
  const int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  ScanArguments arguments{};
  arguments.size = sizeof arguments;
  arguments.start = reinterpret_cast<std::uintptr_t>(pages);
  arguments.end = arguments.start + count * kPage;
  arguments.vector = reinterpret_cast<std::uintptr_t>(found);
  arguments.vector_length = capacity;
  arguments.category_mask = kPageIsWritten;
  arguments.return_mask = kPageIsWritten;
  const long result = ioctl(file, _IOWR('f', 16, ScanArguments), &arguments);
  close(file);
  return result;
}

bool pagemap_scan_call() {
  char* const pages = fresh_pages(1);
  ScanRange found[2];
  return scan_written(pages, 1, found, 2) >= 0;
}

bool async_tracking() {
  constexpr std::size_t kCount = 8;
  char* const pages = fresh_pages(kCount);
  std::memset(pages, 1, kCount * kPage);
  const int fd = open_uffd(kFeaturePagefaultWp | kFeatureWpUnpopulated | kFeatureWpAsync);
  if (fd < 0 || !watch(fd, pages, kCount, UFFDIO_REGISTER_MODE_WP)) return false;
  if (!write_protect(fd, pages, kCount, true)) return false;
  if (access_raises(pages + 3 * kPage, true) != 0) return false;
  ScanRange found[kCount];
  return scan_written(pages, kCount, found, kCount) == 1 &&
         found[0].start == reinterpret_cast<std::uintptr_t>(pages + 3 * kPage) &&
         found[0].end == found[0].start + kPage;
}

bool move_pages() {
  char* const to = fresh_pages(1);
  char* const from = fresh_pages(1);
  from[7] = 42;
  const int fd = open_uffd(kFeatureSigbus | kFeatureMove);
  if (fd < 0 || !watch(fd, to, 1, UFFDIO_REGISTER_MODE_MISSING)) return false;
  MoveArguments move{reinterpret_cast<std::uintptr_t>(to), reinterpret_cast<std::uintptr_t>(from),
                     kPage, 0, 0};
  return ioctl(fd, _IOWR(UFFDIO, 0x05, MoveArguments), &move) == 0 && to[7] == 42;
}

bool guard_markers() {
  char* const pages = fresh_pages(1);
  return madvise(pages, kPage, kMadvGuardInstall) == 0 && access_raises(pages, false) == SIGSEGV;
}

bool mremap_dontunmap() {
  constexpr int kDontUnmap = 4;
  char* const pages = fresh_pages(1);
  pages[7] = 42;
  // The last argument is a hint, and must be there: the C library passes on whatever is in the
  // register of an argument that was left out, and the kernel refuses an unaligned one.
  void* const moved = mremap(pages, kPage, kPage, MREMAP_MAYMOVE | kDontUnmap, nullptr);
  return moved != MAP_FAILED && static_cast<char*>(moved)[7] == 42 && pages[7] == 0;
}

bool protection_key() {
  const int key = pkey_alloc(0, 0);
  if (key < 0) return false;
  char* const pages = fresh_pages(1);
  pages[0] = 1;
  if (pkey_mprotect(pages, kPage, PROT_READ | PROT_WRITE, key) != 0) return false;
  pkey_set(key, PKEY_DISABLE_WRITE);
  const bool reads = access_raises(pages, false) == 0;
  const bool traps = access_raises(pages, true) == SIGSEGV && g_code == SEGV_PKUERR;
  pkey_set(key, 0);
  return reads && traps && access_raises(pages, true) == 0;
}

/// A ring of the addresses of this thread's page faults.
bool perf_ring(bool of_the_kernel_too) {
  perf_event_attr attributes{};
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = PERF_COUNT_SW_PAGE_FAULTS;
  attributes.sample_period = 1;
  attributes.sample_type = PERF_SAMPLE_ADDR;
  attributes.exclude_kernel = of_the_kernel_too ? 0 : 1;
  const long fd = syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
  return fd >= 0 && mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED,
                         static_cast<int>(fd), 0) != MAP_FAILED;
}

/// Writing into one's own memory past its protection.
bool forced_write() {
  char* const pages = fresh_pages(1);
  if (mprotect(pages, kPage, PROT_NONE) != 0) return false;
  const int file = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  const char byte = 42;
  if (file < 0 || pwrite(file, &byte, 1, reinterpret_cast<off_t>(pages)) != 1) return false;
  return mprotect(pages, kPage, PROT_READ) == 0 && pages[0] == 42;
}

/// Keeps the kernel's counters of page faults switched on for ever. The first event of a kind, and
/// the end of the last one, patch the kernel's page-fault path while it runs; under emulation with
/// two processors that has ended in a panic (an int3 in handle_mm_fault).
void hold_counters() {
  for (const std::uint64_t kind :
       {PERF_COUNT_SW_PAGE_FAULTS, PERF_COUNT_SW_PAGE_FAULTS_MIN, PERF_COUNT_SW_PAGE_FAULTS_MAJ}) {
    perf_event_attr attributes{};
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.config = kind;
    if (syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0) < 0)
      std::puts("no counter to hold");
  }
  for (;;) pause();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--hold-counters") == 0) hold_counters();
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);

  // Named as the library's features are, where it has one.
  fact("uffd", open_uffd(0) >= 0);
  fact("uffd.sigbus", missing_trap());
  fact("uffd.kernel_mode",
       open_uffd(0, 0) >= 0 || open("/dev/userfaultfd", O_RDWR | O_CLOEXEC) >= 0);
  fact("uffd.wp", write_protect_trap(fresh_pages(1), 0, true));
  fact("uffd.wp_shmem", write_protect_trap(memfd_pages(1), kFeatureWpShmem, true));
  fact("uffd.minor_shmem", minor_trap());
  fact("uffd.exact_address", exact_address());
  fact("uffd.event_remap", open_uffd(kFeatureEventRemap) >= 0);
  fact("uffd.wp_unpopulated", write_protect_trap(fresh_pages(1), kFeatureWpUnpopulated, false));
  fact("uffd.wp_async", async_tracking());
  fact("uffd.move", move_pages());
  fact("pagemap_scan", pagemap_scan_call());
  fact("guard_markers", guard_markers());
  fact("mremap_dontunmap", mremap_dontunmap());
  fact("pkey", protection_key());
  fact("perf.user", perf_ring(false));
  fact("perf.kernel", perf_ring(true));
  fact("proc.mem_force", forced_write());
  // Of interest to people.
  fact("uffd.wp_shmem_unpopulated", write_protect_trap(memfd_pages(1), kFeatureWpShmem, false));
  fact("populate_write", madvise(fresh_pages(1), kPage, kMadvPopulateWrite) == 0);
  fact("mseal", syscall(kSysMseal, fresh_pages(1), kPage, 0) == 0);
  fact("vma_names", prctl(0x53564d41 /* PR_SET_VMA */, 0, fresh_pages(1), kPage, "facts") == 0);
  std::puts("facts done");
  return 0;
}
