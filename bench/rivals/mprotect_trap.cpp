#include "rivals/mprotect_trap.hpp"

#include <sys/mman.h>

#include <cerrno>

#include <pagetrap/core/units.hpp>

namespace pagetrap::bench::rivals {

namespace {

PageRange g_range;
std::byte** g_list = nullptr;
std::size_t g_recorded = 0;
int g_failure = 0;
constinit thread_local std::uint64_t t_faults = 0;

void on_segv(int, siginfo_t* info, void*) {
  if (!g_range.contains(info->si_addr)) {
    signal(SIGSEGV, SIG_DFL);  // a genuine error: let it happen again, and end the process
    return;
  }
  std::byte* const page = page_of(info->si_addr).base;
  ++t_faults;
  if (g_list != nullptr) g_list[g_recorded++] = page;
  if (mprotect(page, page_size(), PROT_READ | PROT_WRITE) == 0) return;
  g_failure = errno;
  mprotect(g_range.base, g_range.size_bytes(), PROT_READ | PROT_WRITE);
}

}  // namespace

MprotectTrap::MprotectTrap(std::size_t size_bytes) : memory_(size_bytes) {
  populate(memory_.data(), size_bytes);
  g_range = {memory_.data(), pages_for(size_bytes)};
  g_failure = 0;
}

MprotectTrap::~MprotectTrap() { g_range = {}; }

bool MprotectTrap::protect(std::byte* from, std::size_t size_bytes) noexcept {
  return mprotect(from, size_bytes, PROT_READ) == 0;
}

std::uint64_t MprotectTrap::faults() noexcept { return t_faults; }

void MprotectTrap::record_into(std::byte** list) noexcept {
  g_list = list;
  g_recorded = 0;
}

std::size_t MprotectTrap::recorded() noexcept { return g_recorded; }
void MprotectTrap::forget_recorded() noexcept { g_recorded = 0; }
int MprotectTrap::failure() noexcept { return g_failure; }

MprotectTrap::Armed::Armed() noexcept : swap_(SIGSEGV, on_segv) {}

}  // namespace pagetrap::bench::rivals
