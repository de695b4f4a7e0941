// TRAP, the full cycle and our dispatch, counted in instructions.
//
// Runs in a guest whose clock is its instruction counter (qemu -icount shift=0: one instruction is
// one nanosecond of guest time, and the time-stamp counter counts those nanoseconds). What is
// measured is thus the number of instructions between two rdtsc, kernel included, and it is the
// same on every run: no caches, no clock frequency, no neighbours.
//
// The statistic is the MINIMUM of many repeats, beside the median. An instruction count has no
// lucky runs: the same path always has the same length, and all that can be added is a timer
// interrupt or a refill of some kernel list, so the minimum is the path itself.
//
// Output: lines "icount NAME minimum median", then "dispatch ..." lines with the differences, and
// "icount done" at the end.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cpuid.h>
#include <x86intrin.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <pagetrap/vm/vm.hpp>

namespace {

using pagetrap::Access;
using pagetrap::BackendId;
using pagetrap::Fault;
using pagetrap::FaultKind;
using pagetrap::PageRange;
using pagetrap::Pages;
using pagetrap::Region;
using pagetrap::Verdict;

constexpr std::size_t kPage = 4096;
constexpr std::size_t kMappingPages = 64;
constexpr int kRepeats = 300;
constexpr int kGoal = 60;  // instructions; DESIGN goal for the dispatch over a bare handler

[[noreturn]] void die(const char* what) {
  std::printf("error %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

template <class T>
T need(pagetrap::Result<T> result, const char* what) {
  if (!result) {
    std::printf("error %s: %s\n", what, pagetrap::describe(result.error()).c_str());
    std::exit(1);
  }
  return std::move(result).value();
}

// --- Counting

struct Count {
  std::uint64_t minimum = 0;
  std::uint64_t median = 0;
};

std::uint64_t g_empty = 0;  // between two rdtsc with nothing between them

template <class Work>
Count count(Work work) {
  std::vector<std::uint64_t> samples;
  samples.reserve(kRepeats);
  for (int i = 0; i < kRepeats; ++i) {
    const std::uint64_t begin = __rdtsc();
    work();
    const std::uint64_t end = __rdtsc();
    samples.push_back(end - begin - g_empty);
  }
  std::sort(samples.begin(), samples.end());
  return {samples.front(), samples[samples.size() / 2]};
}

void show(const char* name, Count c) {
  std::printf("icount %-34s %7llu %7llu\n", name, static_cast<unsigned long long>(c.minimum),
              static_cast<unsigned long long>(c.median));
  std::fflush(stdout);
}

/// Loops of known length: what one instruction counts.
void calibrate() {
  g_empty = ~std::uint64_t{0};
  for (int i = 0; i < kRepeats; ++i) {
    const std::uint64_t begin = __rdtsc();
    const std::uint64_t end = __rdtsc();
    g_empty = std::min(g_empty, end - begin);
  }
  const auto loop = [](std::uint64_t turns) {
    return count([turns] {
      std::uint64_t sum = 0;
      std::uint64_t left = turns;
      asm volatile("1: add $1, %0\n\tdec %1\n\tjnz 1b" : "+r"(sum), "+r"(left));
    });
  };
  // A difference, so that what surrounds the loop cancels out.
  const std::uint64_t counted = loop(2000).minimum - loop(1000).minimum;
  std::printf("calibration: 3000 instructions are counted as %llu; rdtsc pair %llu\n",
              static_cast<unsigned long long>(counted), static_cast<unsigned long long>(g_empty));
  if (counted < 2990 || counted > 3010) {
    std::puts("error the clock of this machine does not count instructions: boot with -icount");
    std::exit(1);
  }
}

// --- The access, and the least a handler can do about it: step over it.

constexpr int kStoreLength = 3;  // movb $1, (%rax) is c6 00 01

void store(std::byte* address) { asm volatile("movb $1, (%0)" : : "a"(address) : "memory"); }

std::uint64_t g_handled = 0;

void step_over(void* context) {
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += kStoreLength;
  ++g_handled;
}
void bare_step_over(int, siginfo_t*, void* context) { step_over(context); }
Verdict our_step_over(void*, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  step_over(fault.context);
  return Verdict::resolved;
}

/// Counts `work`, and makes sure that each repeat trapped exactly once.
template <class Work>
Count count_traps(const char* name, Work work) {
  const std::uint64_t before = g_handled;
  const Count c = count(work);
  if (g_handled - before != kRepeats) {
    std::printf("error %s: %llu traps in %d repeats\n", name,
                static_cast<unsigned long long>(g_handled - before), kRepeats);
    std::exit(1);
  }
  show(name, c);
  return c;
}

std::byte* fresh_mapping(std::size_t pages) {
  void* const at = mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) die("mmap");
  // No huge pages: the first protection of one would be counted as a split.
  madvise(at, pages * kPage, MADV_NOHUGEPAGE);
  std::memset(at, 1, pages * kPage);
  return static_cast<std::byte*>(at);
}

using BareHandler = void (*)(int, siginfo_t*, void*);

/// A bare handler in front of whatever is there, for its own time.
class Installed {
 public:
  Installed(int signal, BareHandler handler) : signal_(signal) {
    struct sigaction action {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // as pagetrap's own
    if (sigaction(signal, &action, &before_) != 0) die("sigaction");
  }
  ~Installed() { sigaction(signal_, &before_, nullptr); }
  Installed(const Installed&) = delete;
  Installed& operator=(const Installed&) = delete;

 private:
  int signal_;
  struct sigaction before_ {};
};

// --- The full cycle, by hand: PROT1, TRAP, UNPROT

std::byte* g_page = nullptr;  // the one protected page
int g_uffd = -1;
std::uint32_t* key_rights_in_frame(void* context);

void open_by_mprotect(int, siginfo_t*, void*) {
  mprotect(g_page, kPage, PROT_READ | PROT_WRITE);
  ++g_handled;
}

int set_write_protection(bool on) {
  uffdio_writeprotect range{};
  range.range.start = reinterpret_cast<std::uintptr_t>(g_page);
  range.range.len = kPage;
  range.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
  return ioctl(g_uffd, UFFDIO_WRITEPROTECT, &range);
}
void open_by_uffd(int, siginfo_t*, void*) {
  set_write_protection(false);
  ++g_handled;
}

void watch_writes(std::byte* mapping, bool sigbus) {
  g_uffd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */));
  if (g_uffd < 0) die("userfaultfd");
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | (sigbus ? UFFD_FEATURE_SIGBUS : 0);
  if (ioctl(g_uffd, UFFDIO_API, &api) != 0) die("UFFDIO_API");
  uffdio_register range{};
  range.range.start = reinterpret_cast<std::uintptr_t>(mapping);
  range.range.len = kMappingPages * kPage;
  range.mode = UFFDIO_REGISTER_MODE_WP;
  if (ioctl(g_uffd, UFFDIO_REGISTER, &range) != 0) die("UFFDIO_REGISTER");
}

void* serve_uffd(void*) {
  uffd_msg message{};
  while (read(g_uffd, &message, sizeof message) == sizeof message) {
    ++g_handled;  // the faulting thread sleeps
    set_write_protection(false);
  }
  return nullptr;
}

void bare_cycle_mprotect() {
  g_page = fresh_mapping(kMappingPages) + kMappingPages / 2 * kPage;
  const Installed handler(SIGSEGV, open_by_mprotect);
  count_traps("cycle.mprotect.bare", [] {
    mprotect(g_page, kPage, PROT_READ);
    store(g_page);
  });
}

void bare_cycle_uffd_inline() {
  std::byte* const mapping = fresh_mapping(kMappingPages);
  g_page = mapping + kMappingPages / 2 * kPage;
  watch_writes(mapping, true);
  const Installed handler(SIGBUS, open_by_uffd);
  count_traps("cycle.uffd_inline.bare", [] {
    set_write_protection(true);
    store(g_page);
  });
  close(g_uffd);
}

/// Leaves its thread behind, asleep in read().
void bare_cycle_uffd_thread() {
  std::byte* const mapping = fresh_mapping(kMappingPages);
  g_page = mapping + kMappingPages / 2 * kPage;
  watch_writes(mapping, false);
  pthread_t server{};
  if (pthread_create(&server, nullptr, serve_uffd, nullptr) != 0) die("pthread_create");
  count_traps("cycle.uffd_thread.bare", [] {
    set_write_protection(true);
    store(g_page);
  });
  pthread_detach(server);
}

// Protection keys: rights are a register, restored from the signal frame on return, so it is there
// that a handler changes them. SOURCE Intel SDM vol. 1 ch. 13: component 9 of the XSAVE area.
int g_key = -1;
unsigned g_rights_offset = 0;

std::uint32_t* key_rights_in_frame(void* context) {
  auto* const area =
      reinterpret_cast<std::byte*>(static_cast<ucontext_t*>(context)->uc_mcontext.fpregs);
  constexpr std::size_t kHeader = 512;
  std::uint64_t present = 0;
  std::memcpy(&present, area + kHeader, sizeof present);
  present |= std::uint64_t{1} << 9;
  std::memcpy(area + kHeader, &present, sizeof present);
  return reinterpret_cast<std::uint32_t*>(area + g_rights_offset);
}
void open_by_key(int, siginfo_t*, void* context) {
  *key_rights_in_frame(context) &= ~(3U << (2 * g_key));
  ++g_handled;
}

void bare_cycle_pkey() {
  g_key = pkey_alloc(0, 0);
  if (g_key < 0) {
    std::puts("notice this machine has no protection keys");
    return;
  }
  unsigned size = 0;
  unsigned c = 0;
  unsigned d = 0;
  __get_cpuid_count(0xd, 9, &size, &g_rights_offset, &c, &d);
  std::byte* const mapping = fresh_mapping(kMappingPages);
  g_page = mapping + kMappingPages / 2 * kPage;
  if (pkey_mprotect(mapping, kMappingPages * kPage, PROT_READ | PROT_WRITE, g_key) != 0) {
    die("pkey_mprotect");
  }
  const Installed handler(SIGSEGV, open_by_key);
  count_traps("cycle.pkey.bare", [] {
    pkey_set(g_key, PKEY_DISABLE_WRITE);
    store(g_page);
  });
}

// --- The same through pagetrap

struct OurPage {
  Region* region = nullptr;
  PageRange page;  // what is protected and opened: a page, or all of a pkey region
};
OurPage g_ours;

Verdict our_open(void*, const Fault&) noexcept PAGETRAP_SIGNAL_SAFE {
  ++g_handled;
  return g_ours.region->unprotect(g_ours.page) ? Verdict::resolved : Verdict::not_mine;
}

void our_cycle(const char* name, BackendId backend) {
  std::byte* const mapping = fresh_mapping(kMappingPages);
  const PageRange all{mapping, Pages{kMappingPages}};
  pagetrap::RegionOptions options;
  options.faults = FaultKind::write_protected;
  options.backend = backend;
  auto adopted = Region::adopt(all, options);
  if (!adopted) {
    std::printf("notice %s: %s\n", name, pagetrap::describe(adopted.error()).c_str());
    return;
  }
  Region region = std::move(adopted).value();
  std::byte* const address = mapping + kMappingPages / 2 * kPage;
  g_ours = {&region, region.can().per_page ? PageRange{address, Pages{1}} : all};
  need(region.on_fault(our_open, nullptr), name);
  count_traps(name, [address] {
    (void)g_ours.region->protect(g_ours.page, Access::read);
    store(address);
  });
}

/// TRAP alone, through pagetrap and then, on the same page in the same state of the process,
/// through a bare handler that does the same work. The difference is our dispatch.
void dispatch(const char* name, int signal, Region& region, PageRange protect, std::byte* address) {
  need(region.on_fault(our_step_over, nullptr), name);
  need(region.protect(protect, Access::read), name);
  char row[64];
  std::snprintf(row, sizeof row, "trap.%s.ours", name);
  const Count ours = count_traps(row, [address] { store(address); });
  Count bare;
  {
    const Installed handler(signal, bare_step_over);
    std::snprintf(row, sizeof row, "trap.%s.bare", name);
    bare = count_traps(row, [address] { store(address); });
  }
  need(region.unprotect(protect), name);
  std::printf("dispatch %-32s %7lld\n", name,
              static_cast<long long>(ours.minimum) - static_cast<long long>(bare.minimum));
  std::fflush(stdout);
}

void dispatch_on(const char* name, BackendId backend, int signal) {
  std::byte* const mapping = fresh_mapping(kMappingPages);
  const PageRange all{mapping, Pages{kMappingPages}};
  pagetrap::RegionOptions options;
  options.faults = FaultKind::write_protected;
  options.backend = backend;
  auto adopted = Region::adopt(all, options);
  if (!adopted) {
    std::printf("notice %s: %s\n", name, pagetrap::describe(adopted.error()).c_str());
    return;
  }
  Region region = std::move(adopted).value();
  std::byte* const address = mapping + kMappingPages / 2 * kPage;
  dispatch(name, signal, region, region.can().per_page ? PageRange{address, Pages{1}} : all,
           address);
}

/// Dispatch with `total` one-page regions side by side; the one that traps is in the middle.
void dispatch_among(std::size_t total) {
  std::byte* const mapping = fresh_mapping(total);
  std::vector<Region> regions;
  regions.reserve(total);
  pagetrap::RegionOptions options;
  options.faults = FaultKind::write_protected;
  options.backend = BackendId::mprotect;
  for (std::size_t i = 0; i < total; ++i) {
    regions.push_back(need(Region::adopt({mapping + i * kPage, Pages{1}}, options), "adopt"));
  }
  Region& region = regions[total / 2];
  char name[64];
  std::snprintf(name, sizeof name, "among.%zu", total);
  dispatch(name, SIGSEGV, region, region.range(), region.data());
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  calibrate();
  bare_cycle_mprotect();
  our_cycle("cycle.mprotect.ours", BackendId::mprotect);
  bare_cycle_uffd_inline();
  our_cycle("cycle.uffd_inline.ours", BackendId::uffd_inline);
  bare_cycle_pkey();
  our_cycle("cycle.pkey.ours", BackendId::pkey);

  dispatch_on("mprotect", BackendId::mprotect, SIGSEGV);
  dispatch_on("uffd_inline", BackendId::uffd_inline, SIGBUS);
  dispatch_on("pkey", BackendId::pkey, SIGSEGV);
  for (const std::size_t total : {std::size_t{1}, std::size_t{1000}, std::size_t{100000}}) {
    dispatch_among(total);
  }

  // Threads come last: a process that has one is another process for many a kernel path, and for
  // protection keys, which must be taken away from each.
  bare_cycle_uffd_thread();
  our_cycle("cycle.uffd_thread.ours", BackendId::uffd_thread);
  our_cycle("cycle.pkey_two_threads.ours", BackendId::pkey);
  std::printf("goal dispatch <= %d\n", kGoal);
  std::puts("icount done");
  return 0;
}
