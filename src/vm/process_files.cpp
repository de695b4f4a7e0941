#include "vm/process_files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>

namespace pagetrap {
inline namespace v0 {
namespace {

constinit std::atomic<int> g_memory{-1};
constinit std::atomic<int> g_pagemap{-1};

void open_into(std::atomic<int>& slot, const char* path, int flags) noexcept {
  if (slot.load(std::memory_order_acquire) >= 0) return;
  const int opened = ::open(path, flags | O_CLOEXEC);
  if (opened < 0) return;
  int expected = -1;
  // Two first regions at once: the loser closes its own.
  if (!slot.compare_exchange_strong(expected, opened)) ::close(opened);
}

// Keeps the number, so that whoever read it before the fork has a valid one.
void reopen(std::atomic<int>& slot, const char* path, int flags) noexcept {
  const int old = slot.load();
  if (old < 0) return;
  const int opened = ::open(path, flags | O_CLOEXEC);
  if (opened < 0 || ::dup3(opened, old, O_CLOEXEC) < 0) {
    ::close(old);
    slot.store(-1);
  }
  if (opened >= 0) ::close(opened);
}

}  // namespace

void open_process_files() noexcept {
  open_into(g_memory, "/proc/self/mem", O_RDWR);
  open_into(g_pagemap, "/proc/self/pagemap", O_RDONLY);
}

int memory_descriptor() noexcept PAGETRAP_SIGNAL_SAFE { return g_memory.load(); }
int pagemap_descriptor() noexcept PAGETRAP_SIGNAL_SAFE { return g_pagemap.load(); }

void reopen_process_files_in_child() noexcept {
  reopen(g_memory, "/proc/self/mem", O_RDWR);
  reopen(g_pagemap, "/proc/self/pagemap", O_RDONLY);
}

}  // namespace v0
}  // namespace pagetrap
