// Handlers that were left by siglongjmp.
//
// A fault counts itself in (InFlight) and out, so that the end of a region can wait for it. One
// that siglongjmp left never counts itself out. But a handler that runs has its signal frame on its
// thread's stack, and one that was left has not: the search of outer_frames.hpp tells them apart.
// It is made where it is cheap to (a fault while handlers are recorded looks at addresses alone),
// where the answer matters (inside_handler()), and in all threads when a wait lasts.
//
// RACE a thread is interrupted between counting itself in and recording it: no record, nothing is
// forgotten, the wait goes on. Between recording and the handler's call: its frame is found.
// Not covered: a handler that switches stacks (swapcontext) would be taken for one that was left.
#include "vm/running.hpp"

#include <algorithm>
#include <array>

#include <pagetrap/vm/freeze.hpp>

#include "sys/frame_layout.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/outer_frames.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

// The contexts of the frames on this thread's stack.
struct Frames {
  std::array<const void*, 16> contexts{};
  std::size_t count = 0;
  [[nodiscard]] bool complete() const noexcept PAGETRAP_SIGNAL_SAFE {
    return count < contexts.size();
  }
  [[nodiscard]] bool contain(const void* context) const noexcept PAGETRAP_SIGNAL_SAFE {
    const auto* const end = contexts.begin() + count;
    return std::find(contexts.begin(), end, context) != end;
  }
};

void note(void* self, void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  auto& frames = *static_cast<Frames*>(self);
  if (frames.complete()) frames.contexts[frames.count++] = context;
}

// Forgets the handlers of this thread whose frames are not on the stack from `stack_pointer` on.
void forget_by_search(std::uintptr_t stack_pointer) noexcept PAGETRAP_SIGNAL_SAFE {
  sys::ThreadState& self = sys::this_thread();
  const int recorded = std::min(self.handler_depth, static_cast<int>(self.handlers.size()));
  Frames frames;
  if (recorded == 0 || !for_each_outer_frame(stack_pointer, note, &frames) || !frames.complete())
    return;
  // They nest: the first that was left takes all inner ones with it.
  for (int i = 0; i < recorded; ++i) {
    if (frames.contain(self.handlers[static_cast<std::size_t>(i)].context)) continue;
    return forget_handlers_above(self, i);
  }
}

void forget_in_thread(void*, void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  forget_by_search(sys::interrupted_stack_pointer(context));
}

std::uintptr_t here() noexcept PAGETRAP_SIGNAL_SAFE {
  return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
}

}  // namespace

void forget_handlers_above(sys::ThreadState& self, int depth) noexcept PAGETRAP_SIGNAL_SAFE {
  const int recorded = std::min(self.handler_depth, static_cast<int>(self.handlers.size()));
  self.handler_depth = depth;
  for (int i = depth; i < recorded; ++i) {
    const sys::RunningHandler& left = self.handlers[static_cast<std::size_t>(i)];
    static_cast<RegionState*>(left.region)->in_flight.leave(left.phase);
  }
}

// A handler that still runs has its frame above that of a fault in it, on the same stack. If it
// does not look so, the handler was left, or one of the two is on an alternate stack: search.
void forget_left_handlers(sys::ThreadState& self, const void* context) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const auto depth = static_cast<std::size_t>(self.handler_depth);
  const bool plausible = depth < self.handlers.size() &&
                         reinterpret_cast<std::uintptr_t>(self.handlers[depth - 1].context) >
                             reinterpret_cast<std::uintptr_t>(context);
  if (!plausible) forget_by_search(sys::interrupted_stack_pointer(context));
}

void count_own_handlers_again() noexcept {
  sys::ThreadState& self = sys::this_thread();
  for (int i = 0; i < std::min(self.handler_depth, static_cast<int>(self.handlers.size())); ++i) {
    sys::RunningHandler& running = self.handlers[static_cast<std::size_t>(i)];
    static_cast<RegionState*>(running.region)->in_flight.enter_again(running.phase);
  }
}

bool inside_handler() noexcept PAGETRAP_SIGNAL_SAFE {
  const sys::ThreadState& self = sys::this_thread();
  if (self.handler_depth != 0) forget_by_search(here());
  return self.handler_depth != 0;
}

void wait_for_handlers(RegionState& state) noexcept {
  constexpr std::uint64_t kLongest = 1'000'000'000;
  std::uint64_t patience = 50'000'000;  // ns; handlers are shorter, mostly
  while (!state.in_flight.wait(patience)) {
    forget_by_search(here());
    // If some thread does not answer it is asked again.
    static_cast<void>(for_every_other_thread(forget_in_thread, nullptr));
    patience = std::min(2 * patience, kLongest);
  }
}

}  // namespace v0
}  // namespace pagetrap
