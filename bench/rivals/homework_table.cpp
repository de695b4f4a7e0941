#include "rivals/homework_table.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <cmath>
#include <system_error>

#include <pagetrap/core/units.hpp>

namespace pagetrap::bench::rivals {

namespace {

PageRange g_range;
std::byte* g_present = nullptr;
std::uint64_t g_faults = 0;

void on_segv(int, siginfo_t* info, void*) {
  if (!g_range.contains(info->si_addr)) {
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  ++g_faults;
  std::byte* const page = page_of(info->si_addr).base;
  if (g_present != nullptr) munmap(g_present, page_size());
  void* const mapped = mmap(page, page_size(), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (mapped != page) {
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  auto* const roots = static_cast<double*>(mapped);
  const std::size_t count = page_size() / sizeof(double);
  const std::uint64_t first = static_cast<std::uint64_t>(page - g_range.base) / sizeof(double);
  for (std::size_t i = 0; i < count; ++i) roots[i] = std::sqrt(static_cast<double>(first + i));
  g_present = page;
}

}  // namespace

HomeworkTable::HomeworkTable(std::size_t size_bytes) : size_bytes_(size_bytes) {
  void* const mapped =
      mmap(nullptr, size_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "mmap of the homework's table");
  base_ = static_cast<std::byte*>(mapped);
  g_range = {base_, pages_for(size_bytes)};
  g_present = nullptr;
  g_faults = 0;
}

HomeworkTable::~HomeworkTable() {
  munmap(base_, size_bytes_);
  g_range = {};
}

std::uint64_t HomeworkTable::faults() noexcept { return g_faults; }

HomeworkTable::Armed::Armed() noexcept : swap_(SIGSEGV, on_segv) {}

}  // namespace pagetrap::bench::rivals
