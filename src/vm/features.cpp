// What this machine offers, found by trying.
#include <pagetrap/vm/features.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include "sys/fault_ring.hpp"
#include "sys/fd.hpp"
#include "sys/kernel_abi.hpp"
#include "sys/mapping.hpp"
#include "sys/pagemap.hpp"
#include "sys/protection_key.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/userfaultfd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

// One scratch page of plain memory.
Result<sys::Mapping> scratch(int prot) {
  sys::Mapping::Request request;
  request.size_bytes = page_size();
  request.prot = prot;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  return sys::Mapping::create(request);
}

int try_uffd(std::uint64_t bit) {
  int error = 0;
  const std::uint64_t have = sys::userfaultfd_features(error);
  if (error != 0) return error;
  return (have & bit) == bit ? 0 : ENOTSUP;
}

int try_kernel_mode() {
  const auto opened = sys::open_userfaultfd(0, true, false);
  return opened ? 0 : opened.error().number;
}

int try_guard() {
  const auto page = scratch(PROT_READ | PROT_WRITE);
  return page ? sys::advise(page->range(), MADV_GUARD_INSTALL) : page.error().number;
}

int try_pagemap_scan() {
  const sys::Descriptor pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return errno;
  const auto page = scratch(PROT_READ);
  if (!page) return page.error().number;
  std::vector<PageRange> none;
  const auto scanned = sys::scan_written(pagemap.get(), page->range(), false, none);
  return scanned ? 0 : scanned.error().number;
}

int try_forced_write() {
  const sys::Descriptor memory(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  if (!memory.valid()) return errno;
  const auto page = scratch(PROT_NONE);
  if (!page) return page.error().number;
  const char byte = 1;
  return sys::pwrite_all(memory.get(), &byte, 1, reinterpret_cast<std::uintptr_t>(page->data()));
}

int try_dontunmap() {
  const auto page = scratch(PROT_READ | PROT_WRITE);
  if (!page) return page.error().number;
  void* const moved =
      ::mremap(page->data(), page_size(), page_size(), MREMAP_MAYMOVE | MREMAP_DONTUNMAP, nullptr);
  if (moved == MAP_FAILED) return errno;
  ::munmap(moved, page_size());
  return 0;
}

int try_perf(bool kernel) {
  const auto ring = sys::FaultRing::open();
  if (!ring) return ring.error().number;
  return kernel && !ring->samples_kernel() ? EACCES : 0;
}

constexpr const char* kUffdRemedy = "a kernel with CONFIG_USERFAULTFD, and no seccomp filter on it";
constexpr const char* kPerfRemedy =
    "sysctl kernel.perf_event_paranoid=2 or lower, and no seccomp filter on perf_event_open";

Feature made(const char* id, const char* purpose, int error, const char* remedy,
             const char* fallback) {
  return {id, purpose, error == 0, error, error == 0 ? "" : remedy, fallback};
}

void probe_userfaultfd(std::vector<Feature>& all) {
  all.push_back(made("uffd", "page faults of user code delivered to the program", try_uffd(0),
                     kUffdRemedy, "mprotect and SIGSEGV"));
  all.push_back(made("uffd.sigbus", "delivery in the faulting thread",
                     try_uffd(UFFD_FEATURE_SIGBUS), kUffdRemedy, "mprotect and SIGSEGV"));
  all.push_back(made("uffd.kernel_mode", "system calls that touch protected memory are served",
                     try_kernel_mode(),
                     "root or CAP_SYS_PTRACE, sysctl vm.unprivileged_userfaultfd=1, or read and "
                     "write permission on /dev/userfaultfd",
                     "EFAULT from the system call: Region::touch() the pages before it"));
  all.push_back(made("uffd.wp", "write-protect faults of private memory",
                     try_uffd(UFFD_FEATURE_PAGEFAULT_FLAG_WP), "Linux 5.7",
                     "mprotect and SIGSEGV"));
  all.push_back(made("uffd.wp_shmem", "write-protect faults of memory objects",
                     try_uffd(UFFD_FEATURE_WP_HUGETLBFS_SHMEM), "Linux 5.19",
                     "mprotect and SIGSEGV"));
  all.push_back(made("uffd.minor_shmem", "fill through a second view, then publish",
                     try_uffd(UFFD_FEATURE_MINOR_SHMEM), "Linux 5.14", "mprotect and SIGSEGV"));
  all.push_back(made("uffd.exact_address", "handlers see the byte touched, not only its page",
                     try_uffd(UFFD_FEATURE_EXACT_ADDRESS), "Linux 5.18", "none: 6.1 is required"));
  all.push_back(made("uffd.event_remap", "lift in constant time",
                     try_uffd(UFFD_FEATURE_EVENT_REMAP), kUffdRemedy, "none"));
  all.push_back(made("uffd.wp_unpopulated", "protecting pages that were never touched",
                     try_uffd(UFFD_FEATURE_WP_UNPOPULATED), "Linux 6.4",
                     "the pages are populated by reading first"));
  all.push_back(made("uffd.wp_async", "DIRTY with write faults resolved by the kernel",
                     try_uffd(UFFD_FEATURE_WP_ASYNC), "Linux 6.7", "DIRTY by write-protect traps"));
  all.push_back(made("uffd.move", "supply and lift move pages instead of copying them",
                     try_uffd(UFFD_FEATURE_MOVE), "Linux 6.8", "UFFDIO_COPY"));
}

std::vector<Feature> probe_all() {
  std::vector<Feature> all;
  probe_userfaultfd(all);
  all.push_back(made("pagemap_scan", "DIRTY: finding and re-arming written pages atomically",
                     try_pagemap_scan(), "Linux 6.7 and a mounted /proc",
                     "DIRTY by write-protect traps"));
  all.push_back(made("guard_markers", "guard pages that cost no kernel mapping", try_guard(),
                     "Linux 6.13", "PROT_NONE, at most half of vm.max_map_count"));
  all.push_back(made("mremap_dontunmap", "lift", try_dontunmap(), "Linux 5.7", "none"));
  all.push_back(
      made("pkey", "freeze of a whole region in time that grows with threads only",
           sys::have_protection_keys() ? 0 : ENOTSUP,
           "a CPU with protection keys (Intel since Skylake-SP, AMD since Zen 3) that the "
           "hypervisor passes on",
           "protecting the whole region page by page"));
  all.push_back(made("perf.user", "the dirty ring", try_perf(false), kPerfRemedy,
                     "PAGEMAP_SCAN of the region"));
  all.push_back(made("perf.kernel", "the dirty ring sees writes by system calls", try_perf(true),
                     "sysctl kernel.perf_event_paranoid=1 or lower, or CAP_PERFMON",
                     "PAGEMAP_SCAN of the region after such a write"));
  all.push_back(made("proc.mem_force", "the mprotect backend fills pages before others see them",
                     try_forced_write(),
                     "a writable /proc/self/mem and no proc_mem.force_override restriction",
                     "no missing faults of private memory on the mprotect backend"));
  return all;
}

std::size_t read_max_map_count() noexcept {
  const sys::Descriptor file(::open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC));
  std::array<char, 32> text{};
  constexpr std::size_t kDefault = 65530;
  if (!file.valid() || ::read(file.get(), text.data(), text.size() - 1) <= 0) return kDefault;
  const unsigned long limit = std::strtoul(text.data(), nullptr, 10);
  return limit != 0 ? limit : kDefault;
}

const std::size_t kMaxMapCount = read_max_map_count();

}  // namespace

namespace {

struct Probe {
  std::vector<Feature> all;
  int error = 0;                   // of a feature, that may pass
  const Probe* earlier = nullptr;  // what it replaces, which somebody may be reading
};

// What counts now. No lock, which a fork()ed child could find held; two threads that probe at once
// both do. None that was published is ever freed.
constinit std::atomic<const Probe*> g_probe{nullptr};

bool may_pass(int error) { return error == EMFILE || error == ENFILE || error == ENOMEM; }

const Probe& latest_probe() {
  const Probe* known = g_probe.load(std::memory_order_acquire);
  if (known != nullptr && known->error == 0) return *known;
  auto fresh = std::make_unique<Probe>();
  fresh->all = probe_all();
  for (const Feature& feature : fresh->all)
    if (may_pass(feature.error)) fresh->error = feature.error;
  fresh->earlier = known;
  if (g_probe.compare_exchange_strong(known, fresh.get())) return *fresh.release();
  return *known;
}

}  // namespace

std::span<const Feature> features() { return latest_probe().all; }

int probing_error() { return latest_probe().error; }

bool has_feature(const char* id) {
  for (const Feature& feature : features())
    if (std::string_view(feature.id) == id) return feature.available;
  return false;
}

std::size_t max_map_count() noexcept PAGETRAP_SIGNAL_SAFE { return kMaxMapCount; }

std::string kernel_release() {
  utsname system{};
  return ::uname(&system) == 0 ? system.release : "unknown";
}

}  // namespace v0
}  // namespace pagetrap
