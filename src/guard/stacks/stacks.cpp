#include <pagetrap/guard/stacks.hpp>

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include <pagetrap/vm/signals.hpp>

#include "guard/stacks/watched_stack.hpp"
#include "sys/kernel_abi.hpp"
#include "sys/signal_frame.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/thread_stack.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

// Below the first thread's stack nothing is mapped for at least this long.
// SOURCE  mmap_base() in arch/x86/mm/mmap.c: a gap of 128 MiB at least.
constexpr std::uintptr_t kGapOfFirstThread = std::uintptr_t{128} << 20;
// Not to be guarded: what runs now, and a little to go on with.
constexpr std::size_t kInUse = 32 << 10;

constinit thread_local WatchedStack t_stack{};
constinit std::atomic<bool> are_problems{false};

// ASSUMES  initial-exec: a thread-local of this size is there without an allocation, which the
// compiler's proof does not know.
const WatchedStack& mine() noexcept PAGETRAP_SIGNAL_SAFE {
  const WatchedStack* found = nullptr;
  sys::call_unproved([](void* to) { *static_cast<const WatchedStack**>(to) = &t_stack; }, &found);
  return *found;
}

// The markers go with the thread: the C library gives the stack to another one.
struct Leaver {
  PageRange markers;
  ~Leaver() {
    t_stack = {};
    // It cannot fail where installing them did not.
    if (!markers.empty()) static_cast<void>(sys::advise(markers, MADV_GUARD_REMOVE));
  }
};
thread_local Leaver t_leaver;

void look(const siginfo_t& info, void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  if (info.si_code <= 0) return;  // sent by somebody
  const auto address = reinterpret_cast<std::uintptr_t>(info.si_addr);
  if (mine().overflowed_by(address, sys::frame_registers(context).sp))
    report_overflow(mine(), address, context);
}

WatchedStack first_stack() noexcept PAGETRAP_SIGNAL_SAFE {
  const sys::ThreadStack bounds = sys::first_thread_stack();
  WatchedStack stack;
  stack.low = reinterpret_cast<std::uintptr_t>(bounds.low);
  stack.bottom = stack.low - std::min(stack.low, kGapOfFirstThread);
  stack.high = reinterpret_cast<std::uintptr_t>(bounds.high);
  stack.of_first_thread = true;
  return stack;
}

// The lowest pages, if the kernel has markers; else none.
Result<PageRange> put_up_markers(const sys::ThreadStack& stack) {
  const auto size = static_cast<std::size_t>(stack.high - stack.low);
  std::byte* const base = pages_covering(stack.low + page_size() - 1, 1).base;
  const auto* const here = static_cast<const std::byte*>(__builtin_frame_address(0));
  std::size_t length = stack_guard_bytes(size);
  if (here - kInUse < base + length) length = 0;  // called too late
  const PageRange markers{base, Pages{length >> page_shift()}};
  if (markers.empty()) return PageRange{};
  const int error = sys::advise(markers, MADV_GUARD_INSTALL);
  if (error == EINVAL) return PageRange{};
  if (error != 0) return Error{"MADV_GUARD_INSTALL of a stack", error, markers};
  return markers;
}

}  // namespace

void report_stack_overflows() noexcept { are_problems.store(true); }

void watch_stack(const StackBounds& bounds) noexcept {
  t_stack.low = reinterpret_cast<std::uintptr_t>(bounds.low);
  t_stack.bottom = t_stack.low - std::min(t_stack.low, bounds.guard_bytes);
  t_stack.high = reinterpret_cast<std::uintptr_t>(bounds.high);
  t_stack.alternate = reinterpret_cast<std::uintptr_t>(bounds.alternate);
}

bool find_overflow(const void* address, const void* context, WatchedStack& stack) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (!are_problems.load(std::memory_order_relaxed)) return false;
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  const std::uintptr_t sp = sys::frame_registers(context).sp;
  if (at + page_size() < sp) return false;
  stack = mine();
  if (stack.high == 0 && sys::thread_id() == sys::process_id()) {
    const std::uintptr_t alternate = stack.alternate;
    stack = first_stack();
    stack.alternate = alternate;
  }
  return stack.overflowed_by(at, sp);
}

std::size_t stack_guard_bytes(std::size_t stack_bytes) noexcept {
  return std::min(kStackGuardBytes, stack_bytes / 4) & ~(page_size() - 1);
}

bool this_stack_is_watched() noexcept { return t_stack.high != 0; }

Result<Done> watch_this_stack() {
  if (this_stack_is_watched()) return Done{};
  // For the frame of the handler, the unwinder's, and ours.
  if (auto alternate = ensure_alternate_stack(128_KiB); !alternate) return alternate.error();
  sys::ThreadStack stack;
  if (const int error = sys::find_thread_stack(stack)) return Error{"pthread_getattr_np", error};
  const auto low = reinterpret_cast<std::uintptr_t>(stack.low);
  WatchedStack watched;
  watched.high = reinterpret_cast<std::uintptr_t>(stack.high);
  watched.of_first_thread = stack.of_first_thread;
  if (stack.of_first_thread) {
    watched.bottom = low - std::min(low, kGapOfFirstThread);
    watched.low = low;
  } else {
    auto markers = put_up_markers(stack);
    if (!markers) return markers.error();
    t_leaver.markers = *markers;
    watched.bottom = low - stack.guard_bytes;
    watched.low = markers->empty() ? low : reinterpret_cast<std::uintptr_t>(markers->end());
  }
  t_stack = watched;
  return Done{};
}

Result<Done> watch_stacks() {
  if (auto watched = watch_this_stack(); !watched) return watched.error();
  on_stray_fault(look);
  return install_signal_handlers();
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
