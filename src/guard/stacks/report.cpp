// What is said of a stack overflow. On the alternate stack, without malloc.
#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <span>

#include <pagetrap/core/signal_safe_text.hpp>

#include "guard/stacks/recursion.hpp"
#include "guard/stacks/watched_stack.hpp"
#include "sys/process_names.hpp"
#include "sys/signal_frame.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

constinit std::atomic<bool> g_reporting{false};

void print(const SignalSafeText& line) noexcept PAGETRAP_SIGNAL_SAFE {
  sys::write_all(STDERR_FILENO, line.view().data(), line.view().size());
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

void print_frames(const Recursion& all, std::span<const StackFrame> some) noexcept
    PAGETRAP_SIGNAL_SAFE {
  for (const StackFrame& frame : some) print_frame(frame, &frame == all.frames.data());
}

void print_headline(const WatchedStack& stack, std::uintptr_t address, const void* context) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::array<char, 16> room;
  SignalSafeText line;
  line.text("pagetrap: stack overflow in thread ").decimal(sys::thread_id()).text(" \"");
  line.text(sys::name_of_thread(sys::thread_id(), room))
      .text("\"")
      .text(stack.of_first_thread ? " (the first)" : "");
  line.text(sys::frame_facts(context).write ? ": write" : ": access").text(" at ").hex(address);
  print(line.text("\n"));
  SignalSafeText range;
  range.text("pagetrap: its stack is ").hex(stack.low).text(" to ").hex(stack.high).text(", ");
  range.unsigned_decimal((stack.high - stack.low) >> 10).text(" KiB, and used up\n");
  print(range);
}

void print_recursion(const Recursion& recursion) noexcept PAGETRAP_SIGNAL_SAFE {
  SignalSafeText line;
  line.text("pagetrap: ").text(recursion.depth_is_exact ? "" : "about ");
  line.unsigned_decimal(recursion.depth).text(" frames");
  const std::size_t period = recursion.cycle.period;
  if (period == 0) {
    line.text(", no recursion found. The innermost:\n");
  } else if (period == 1) {
    line.text(" of one function that calls itself:\n");
  } else {
    line.text(", of ").unsigned_decimal(period).text(" functions in turns:\n");
  }
  print(line);
  print_frames(recursion, recursion.turn());
  if (recursion.called().empty()) return;
  print(SignalSafeText().text("pagetrap: which had called, innermost first:\n"));
  print_frames(recursion, recursion.called());
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
  print_recursion(find_recursion(stack, context));
  g_reporting.store(false, std::memory_order_release);
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
