#include "vm/process_files.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace pagetrap {
inline namespace v0 {
namespace {

constinit std::atomic<int> g_memory{-1};
constinit std::atomic<int> g_pagemap{-1};
constinit std::atomic<int> g_self{-1};

int open_self() noexcept { return static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)); }

// Null: a pidfd of this process, which is born close-on-exec.
int open_file(const char* path, int flags) noexcept {
  return path != nullptr ? ::open(path, flags | O_CLOEXEC) : open_self();
}

void open_into(std::atomic<int>& slot, const char* path, int flags) noexcept {
  if (slot.load(std::memory_order_acquire) >= 0) return;
  const int opened = open_file(path, flags);
  if (opened < 0) return;
  int expected = -1;
  // Two first regions at once: the loser closes its own.
  if (!slot.compare_exchange_strong(expected, opened)) ::close(opened);
}

// Keeps the number, so that whoever read it before the fork has a valid one.
void reopen(std::atomic<int>& slot, const char* path, int flags) noexcept {
  const int old = slot.load();
  if (old < 0) return;
  const int opened = open_file(path, flags);
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
  open_into(g_self, nullptr, 0);
}

int memory_descriptor() noexcept PAGETRAP_SIGNAL_SAFE { return g_memory.load(); }
int pagemap_descriptor() noexcept PAGETRAP_SIGNAL_SAFE { return g_pagemap.load(); }
int self_descriptor() noexcept PAGETRAP_SIGNAL_SAFE { return g_self.load(); }

void reopen_process_files_in_child() noexcept {
  reopen(g_memory, "/proc/self/mem", O_RDWR);
  reopen(g_pagemap, "/proc/self/pagemap", O_RDONLY);
  reopen(g_self, nullptr, 0);
}

}  // namespace v0
}  // namespace pagetrap
