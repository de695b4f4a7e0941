#include "rivals/uffd_trap.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include <pagetrap/core/units.hpp>

namespace pagetrap::bench::rivals {

namespace {

constexpr int kUserModeOnly = 1;  // UFFD_USER_MODE_ONLY, 5.11: what an ordinary user may have

PageRange g_range;
int g_descriptor = -1;
std::byte** g_list = nullptr;
std::size_t g_recorded = 0;
constinit thread_local std::uint64_t t_faults = 0;

std::uint64_t bits(const void* address) { return reinterpret_cast<std::uintptr_t>(address); }

void on_sigbus(int, siginfo_t* info, void*) {
  if (!g_range.contains(info->si_addr)) {
    signal(SIGBUS, SIG_DFL);
    return;
  }
  std::byte* const page = page_of(info->si_addr).base;
  ++t_faults;
  if (g_list != nullptr) g_list[g_recorded++] = page;
  write_protect(g_descriptor, page, page_size(), false);
}

void throw_errno(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

UffdRange::UffdRange(std::size_t size_bytes, bool by_handler_thread) : memory_(size_bytes) {
  populate(memory_.data(), size_bytes);
  descriptor_ = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | kUserModeOnly));
  if (descriptor_ < 0) throw_errno("userfaultfd");
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | (by_handler_thread ? 0 : UFFD_FEATURE_SIGBUS);
  if (ioctl(descriptor_, UFFDIO_API, &api) != 0) throw_errno("UFFDIO_API");
  uffdio_register range{};
  range.range = {bits(memory_.data()), size_bytes};
  range.mode = UFFDIO_REGISTER_MODE_WP;
  if (ioctl(descriptor_, UFFDIO_REGISTER, &range) != 0) throw_errno("UFFDIO_REGISTER");
}

UffdRange::~UffdRange() {
  memory_.unmap();
  if (descriptor_ >= 0) close(descriptor_);
}

bool write_protect(int descriptor, std::byte* from, std::size_t size_bytes, bool on) noexcept {
  uffdio_writeprotect argument{};
  argument.range = {bits(from), size_bytes};
  argument.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
  return ioctl(descriptor, UFFDIO_WRITEPROTECT, &argument) == 0;
}

UffdInlineTrap::UffdInlineTrap(std::size_t size_bytes) : range_(size_bytes, false) {
  g_range = {range_.memory().data(), pages_for(size_bytes)};
  g_descriptor = range_.descriptor();
}

std::uint64_t UffdInlineTrap::faults() noexcept { return t_faults; }

void UffdInlineTrap::record_into(std::byte** list) noexcept {
  g_list = list;
  g_recorded = 0;
}

std::size_t UffdInlineTrap::recorded() noexcept { return g_recorded; }
void UffdInlineTrap::forget_recorded() noexcept { g_recorded = 0; }

UffdInlineTrap::Armed::Armed() noexcept : swap_(SIGBUS, on_sigbus) {}

UffdThreadTrap::UffdThreadTrap(std::size_t size_bytes)
    : range_(size_bytes, true), server_([this] { serve(); }) {}

// The server ends at the first fault after the mark: a thread that sleeps in read(2) cannot be told
// otherwise, and poll(2) on a second descriptor would cost every fault a system call.
UffdThreadTrap::~UffdThreadTrap() {
  ending_.store(true, std::memory_order_relaxed);
  protect(page(0), page_size());
  write_to(page(0));
  server_.join();
}

void UffdThreadTrap::serve() noexcept {
  uffd_msg message{};
  while (read(range_.descriptor(), &message, sizeof message) ==
         static_cast<ssize_t>(sizeof message)) {
    const auto address = static_cast<std::uintptr_t>(message.arg.pagefault.address);
    std::byte* const page = page_of(reinterpret_cast<void*>(address)).base;
    faults_.fetch_add(1, std::memory_order_relaxed);
    write_protect(range_.descriptor(), page, page_size(), false);
    if (ending_.load(std::memory_order_relaxed)) return;
  }
}

}  // namespace pagetrap::bench::rivals
