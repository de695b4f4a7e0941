// What is said of a stack overflow. On the alternate stack, without malloc.
#include <dlfcn.h>
#include <unistd.h>
#include <unwind.h>

#include <array>
#include <atomic>

#include <pagetrap/core/signal_safe_text.hpp>

#include "guard/stacks/cycle.hpp"
#include "guard/stacks/watched_stack.hpp"
#include "sys/signal_frame.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/thread_stack.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

constexpr std::size_t kMostFrames = 512;
constexpr std::size_t kFewest = 16;     // fewer of a whole stack: the unwinder found no way
constexpr std::size_t kMostShown = 16;  // without a cycle, and before one

/// The innermost frames, from the one that faulted.
struct Sample {
  std::array<StackFrame, kMostFrames> frames{};
  std::size_t count = 0;
  std::uintptr_t first_pc = 0;
  bool complete = false;  // it ends where the stack does
};

// For one thread at a time: an alternate stack has no room for it.
Sample g_sample;
constinit std::atomic<bool> g_reporting{false};

void print(const SignalSafeText& line) noexcept PAGETRAP_SIGNAL_SAFE {
  sys::write_all(STDERR_FILENO, line.view().data(), line.view().size());
}

_Unwind_Reason_Code note(_Unwind_Context* context, void* self) {
  auto& sample = *static_cast<Sample*>(self);
  const std::uintptr_t pc = _Unwind_GetIP(context);
  // Our own frames come first, and the signal's.
  if (sample.count == 0 && pc != sample.first_pc) return _URC_NO_REASON;
  if (sample.count == sample.frames.size()) return _URC_END_OF_STACK;
  sample.frames[sample.count++] = {pc, _Unwind_GetRegionStart(context), _Unwind_GetCFA(context)};
  return _URC_NO_REASON;
}

// WHY _Unwind_Backtrace, which no page lists as signal-safe: it reads tables that are mapped, and
// from glibc 2.35 finds them without a lock; a stack that overflowed inside the dynamic linker's
// lock is one of this very thread, and that lock is recursive. It was linked at start, so that
// nothing is loaded.
void unwind(void* self) {
  auto& sample = *static_cast<Sample*>(self);
  _Unwind_Backtrace(note, self);
  sample.complete = sample.count < sample.frames.size();
}

// Where functions have no tables: by frame pointers, as far as they stay in the stack.
void follow_frame_pointers(Sample& sample, const WatchedStack& stack,
                           const sys::FrameRegisters& at) noexcept PAGETRAP_SIGNAL_SAFE {
  constexpr std::size_t kWord = sizeof(std::uintptr_t);
  sample.count = 0;
  sample.complete = false;
  sample.frames[sample.count++] = {at.pc, 0, at.sp};
  std::uintptr_t frame = at.bp;
  while (frame >= stack.low && frame >= at.sp && frame % kWord == 0 &&
         frame + 2 * kWord <= stack.high && sample.count < sample.frames.size()) {
    const auto* const words = reinterpret_cast<const std::uintptr_t*>(frame);
    sample.frames[sample.count++] = {words[1], 0, frame};
    if (words[0] <= frame) break;
    frame = words[0];
  }
}

// dladdr() takes the dynamic linker's lock, and allocates nothing.
void find_symbol(void* self) {
  auto& info = *static_cast<Dl_info*>(self);
  void* const address = info.dli_saddr;
  info = {};
  if (::dladdr(address, &info) == 0) info = {};
}

void print_frame(const StackFrame& frame, bool interrupted) noexcept PAGETRAP_SIGNAL_SAFE {
  // A return address may be the next function's first: look at the call.
  const std::uintptr_t pc = frame.pc - (interrupted ? 0 : 1);
  Dl_info info{};
  info.dli_saddr = reinterpret_cast<void*>(pc);
  sys::call_unproved(find_symbol, &info);
  SignalSafeText line;
  line.text("pagetrap:   ").hex(frame.pc);
  if (info.dli_sname != nullptr) {
    line.text(" in ").text(info.dli_sname).text("+");
    line.hex(pc - reinterpret_cast<std::uintptr_t>(info.dli_saddr));
  }
  if (info.dli_fname != nullptr) {
    line.text(" (").text(info.dli_fname).text("+");
    line.hex(pc - reinterpret_cast<std::uintptr_t>(info.dli_fbase)).text(")");
  }
  print(line.text("\n"));
}

void print_frames(const Sample& sample, std::size_t begin, std::size_t end) noexcept
    PAGETRAP_SIGNAL_SAFE {
  for (std::size_t i = begin; i < end; ++i) print_frame(sample.frames[i], i == 0);
}

void print_headline(const WatchedStack& stack, std::uintptr_t address, const void* context) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::array<char, 17> name = sys::thread_name();
  SignalSafeText line;
  line.text("pagetrap: stack overflow in thread ").decimal(sys::thread_id()).text(" \"");
  line.text(name.data()).text("\"").text(stack.of_first_thread ? " (the first)" : "");
  line.text(sys::frame_facts(context).write ? ": write" : ": access").text(" at ").hex(address);
  print(line.text("\n"));
  SignalSafeText range;
  range.text("pagetrap: its stack is ").hex(stack.low).text(" to ").hex(stack.high).text(", ");
  range.unsigned_decimal((stack.high - stack.low) >> 10).text(" KiB, and used up\n");
  print(range);
}

void print_depth(const Sample& sample, const Cycle& cycle, const WatchedStack& stack) noexcept
    PAGETRAP_SIGNAL_SAFE {
  SignalSafeText line;
  line.text("pagetrap: ");
  if (sample.complete) {
    line.unsigned_decimal(sample.count).text(" frames");
  } else {
    // As long as those that were seen.
    const std::size_t last = sample.count - 1;
    const std::size_t seen = sample.frames[last].stack - sample.frames[0].stack;
    const std::size_t left = stack.high - sample.frames[last].stack;
    line.text("about ").unsigned_decimal(sample.count + (seen == 0 ? 0 : left * last / seen));
    line.text(" frames");
  }
  if (cycle.period == 0) {
    line.text(", no recursion found. The innermost:\n");
  } else if (cycle.period == 1) {
    line.text(" of one function that calls itself:\n");
  } else {
    line.text(", of ").unsigned_decimal(cycle.period).text(" functions in turns:\n");
  }
  print(line);
}

void print_recursion(const WatchedStack& stack, const void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  Sample& sample = g_sample;
  const sys::FrameRegisters at = sys::frame_registers(context);
  sample.count = 0;
  sample.first_pc = at.pc;
  sys::call_unproved(unwind, &sample);
  if (sample.count < kFewest) follow_frame_pointers(sample, stack, at);
  const Cycle cycle = find_cycle({sample.frames.data(), sample.count});
  print_depth(sample, cycle, stack);
  if (cycle.period == 0)
    return print_frames(sample, 0, sample.count < kMostShown ? sample.count : kMostShown);
  print_frames(sample, cycle.begin, cycle.begin + cycle.period);
  if (cycle.begin == 0) return;
  print(SignalSafeText().text("pagetrap: which had called, innermost first:\n"));
  print_frames(sample, 0, cycle.begin < kMostShown ? cycle.begin : kMostShown);
}

}  // namespace

// RACE two threads overflow at once: the second waits, at most until the first has ended the
// process. A fault inside the report finds the headline printed, and says no more.
void report_overflow(const WatchedStack& stack, std::uintptr_t address,
                     const void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  print_headline(stack, address, context);
  sys::Patience patience;
  while (g_reporting.exchange(true, std::memory_order_acquire)) {
    if (!patience.wait()) return;
  }
  print_recursion(stack, context);
  g_reporting.store(false, std::memory_order_release);
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
