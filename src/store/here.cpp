#include "store/here.hpp"

#include <pthread.h>

#include <atomic>
#include <mutex>

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

constinit thread_local char g_mark = 0;
std::atomic<unsigned> g_generation{1};

}  // namespace

const void* this_thread_mark() noexcept PAGETRAP_SIGNAL_SAFE { return &g_mark; }

unsigned process_generation() noexcept { return g_generation.load(std::memory_order_relaxed); }

void watch_forks() noexcept {
  static std::once_flag once;
  std::call_once(once, [] {
    // Without it (no memory) a child would be refused by its faults instead of by name.
    static_cast<void>(::pthread_atfork(nullptr, nullptr, [] { g_generation.fetch_add(1); }));
  });
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
