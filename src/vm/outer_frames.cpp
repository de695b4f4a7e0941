#include "vm/outer_frames.hpp"

#include <signal.h>

#include <array>
#include <atomic>
#include <cstdint>

#include <pagetrap/core/units.hpp>

#include "sys/frame_layout.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

constexpr std::uintptr_t kLargestStack = 64U << 20;  // an end for searches on unusual stacks
constinit std::atomic<std::uintptr_t> g_restorer{0};

// The first genuine frame at or above `from`; 0 if the stack ends before.
std::uintptr_t next_frame(std::uintptr_t from, std::uintptr_t restorer) noexcept
    PAGETRAP_SIGNAL_SAFE {
  constexpr std::size_t kWord = sizeof(std::uintptr_t);
  std::array<std::uintptr_t, 128> words;  // 1 KiB: broadcasts run on small alternate stacks too
  std::uintptr_t at = from & ~(kWord - 1);
  const std::uintptr_t limit = at + kLargestStack;
  while (at < limit) {
    // Never across a page, so that a chunk is readable or not as a whole.
    const std::size_t to_page_end = page_size() - (at & (page_size() - 1));
    const std::size_t chunk = to_page_end < sizeof words ? to_page_end : sizeof words;
    if (!sys::read_own_memory(reinterpret_cast<const void*>(at), words.data(), chunk)) return 0;
    for (std::size_t i = 0; i < chunk / kWord; ++i) {
      const std::uintptr_t candidate = at + i * kWord;
      if (words[i] == restorer && sys::is_signal_frame(candidate)) return candidate;
    }
    at += chunk;
  }
  return 0;
}

}  // namespace

void learn_signal_restorer() noexcept {
  g_restorer.store(sys::signal_restorer(SIGSEGV), std::memory_order_relaxed);
}

bool for_each_outer_frame(std::uintptr_t stack_pointer, FrameVisitor visit, void* self) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::uintptr_t restorer = g_restorer.load(std::memory_order_relaxed);
  if (restorer == 0) return false;
  std::uintptr_t from = stack_pointer;
  // Each frame is nearer to the thread's start than the last: handlers nest. A bound all the same,
  // against a stack that was overwritten with frames pointing at each other.
  for (int depth = 0; depth < 64 && from != 0; ++depth) {
    const std::uintptr_t frame = next_frame(from, restorer);
    if (frame == 0) break;
    void* const outer = sys::context_of_frame(frame);
    visit(self, outer);
    from = sys::interrupted_stack_pointer(outer);
  }
  return true;
}

}  // namespace v0
}  // namespace pagetrap
