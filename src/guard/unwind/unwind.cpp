#include "guard/unwind/unwind.hpp"

#include <pthread.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <cstring>
#include <span>

#include <pagetrap/guard/backtrace.hpp>

#include "guard/unwind/frame_rule.hpp"
#include "sys/signal_frame.hpp"

extern "C" void* __libc_stack_end;  // where the main thread's stack begins: ld.so's

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

// --- the cache -----------------------------------------------------------------------------------

// A rule in one word: 24 bits for each offset, then the two kinds. An entry is this word and the
// instruction's address xor this word, so that halves of two writers do not match (RACE).
struct Entry {
  std::atomic<std::uint64_t> check{0};
  std::atomic<std::uint64_t> rule{0};
};
constexpr std::size_t kEntries = std::size_t{1} << 14;
constinit std::array<Entry, kEntries> cache{};

constexpr std::int32_t kLargest = 1 << 23;  // frames beyond are not followed

std::uint64_t pack(const FrameRule& rule) noexcept {
  if (rule.frame_offset >= kLargest || rule.frame_offset < -kLargest ||
      rule.bp_offset >= kLargest || rule.bp_offset < -kLargest)
    return 0;
  return (static_cast<std::uint64_t>(rule.frame_offset) & 0xffffff) |
         (static_cast<std::uint64_t>(rule.bp_offset) & 0xffffff) << 24 |
         static_cast<std::uint64_t>(rule.frame) << 48 |
         static_cast<std::uint64_t>(rule.saved_bp) << 52 | std::uint64_t{1} << 56;
}

std::int64_t extend(std::uint64_t bits) noexcept PAGETRAP_SIGNAL_SAFE {
  return static_cast<std::int64_t>(bits << 40) >> 40;
}

std::uint64_t rule_at(std::uintptr_t pc) noexcept PAGETRAP_SIGNAL_SAFE {
  Entry& entry = cache[(pc * 0x9e3779b97f4a7c15U) >> 50];
  const std::uint64_t known = entry.rule.load(std::memory_order_relaxed);
  if ((entry.check.load(std::memory_order_relaxed) ^ known) == pc) return known;
  const std::uint64_t found = pack(find_frame_rule(pc));
  entry.rule.store(found, std::memory_order_relaxed);
  entry.check.store(pc ^ found, std::memory_order_relaxed);
  return found;
}

// --- the stack -----------------------------------------------------------------------------------

constexpr std::uintptr_t kLargestStack = std::uintptr_t{1} << 30;
// Of a stack that is not the thread's own: an alternate one, a coroutine's. Its outermost function
// ends the walk before.
constexpr std::uintptr_t kForeignStack = 64 * 1024;

// glibc keeps a thread's own structure at the top of its stack.
std::uintptr_t top_of_stack(std::uintptr_t sp) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto main_top = reinterpret_cast<std::uintptr_t>(__libc_stack_end);
  if (sp < main_top && main_top - sp < kLargestStack) return main_top;
  const auto own = static_cast<std::uintptr_t>(::pthread_self());
  if (sp < own && own - sp < kLargestStack) return own;
  return sp + kForeignStack;
}

std::uintptr_t word_at(std::uintptr_t address) noexcept PAGETRAP_SIGNAL_SAFE {
  std::uintptr_t word = 0;
  std::memcpy(&word, reinterpret_cast<const void*>(address), sizeof word);
  return word;
}

// `put(i, registers)` is told of each frame, innermost first.
template <class Put>
[[gnu::always_inline]] inline std::size_t walk(Registers registers, bool exact, std::size_t most,
                                               Put put) noexcept PAGETRAP_SIGNAL_SAFE {
  std::uintptr_t top = top_of_stack(registers.sp);
  std::size_t count = 0;
  while (count < most && registers.pc != 0) {
    put(count++, registers);
    const std::uint64_t rule = rule_at(exact ? registers.pc : registers.pc - 1);
    exact = false;
    std::uintptr_t frame = 0;
    const auto offset = static_cast<std::uintptr_t>(extend(rule & 0xffffff));
    switch (static_cast<FrameRule::Frame>((rule >> 48) & 15)) {
      case FrameRule::Frame::from_sp:
        frame = registers.sp + offset;
        break;
      case FrameRule::Frame::from_bp:
        frame = registers.bp + offset;
        break;
      case FrameRule::Frame::at_bp: {
        const std::uintptr_t at = registers.bp + offset;
        if (at < registers.sp || at > top - 8) return count;
        frame = word_at(at);
        break;
      }
      case FrameRule::Frame::interrupted: {
        // After the return from the handler, sp is at the context.
        if (registers.sp > top - sizeof(ucontext_t)) return count;
        registers = interrupted(reinterpret_cast<const void*>(registers.sp));
        top = top_of_stack(registers.sp);
        exact = true;
        continue;
      }
      default:
        return count;
    }
    // Frames only go up, and every word that is read is on the stack.
    if (frame <= registers.sp || frame > top || (frame & 7) != 0) return count;
    const auto bp_offset = static_cast<std::uintptr_t>(extend((rule >> 24) & 0xffffff));
    const auto saved = static_cast<FrameRule::SavedBp>((rule >> 52) & 15);
    if (saved != FrameRule::SavedBp::unchanged) {
      const std::uintptr_t at =
          (saved == FrameRule::SavedBp::in_frame ? frame : registers.bp) + bp_offset;
      if (at < registers.sp || at > top - 8) return count;
      registers.bp = word_at(at);
    }
    registers.pc = word_at(frame - 8);
    registers.sp = frame;
  }
  return count;
}

}  // namespace

[[gnu::hot]] std::size_t unwind(Registers registers, bool exact, std::uintptr_t* frames,
                                std::size_t most) noexcept PAGETRAP_SIGNAL_SAFE {
  return walk(
      registers, exact, most,
      [=](std::size_t i, const Registers& at) noexcept PAGETRAP_SIGNAL_SAFE { frames[i] = at.pc; });
}

std::size_t unwind(Registers registers, bool exact, std::span<StackFrame> frames) noexcept
    PAGETRAP_SIGNAL_SAFE {
  return walk(registers, exact, frames.size(),
              [=](std::size_t i, const Registers& at) noexcept PAGETRAP_SIGNAL_SAFE {
                const bool returns_here = i != 0 || !exact;
                frames[i] = {at.pc, function_at(at.pc - (returns_here ? 1 : 0)), at.sp};
              });
}

Registers interrupted(const void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  const sys::FrameRegisters registers = sys::frame_registers(context);
  return {registers.pc, registers.sp, registers.bp};
}

Registers caller_of(const void* frame) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto at = reinterpret_cast<std::uintptr_t>(frame);
  return {word_at(at + 8), at + 16, word_at(at)};
}

std::size_t backtrace(void** frames, std::size_t most) noexcept PAGETRAP_SIGNAL_SAFE {
  static_assert(sizeof(void*) == sizeof(std::uintptr_t));
  return unwind(caller_of(__builtin_frame_address(0)), false,
                reinterpret_cast<std::uintptr_t*>(frames), most);
}

Frames stack_from(const void* frame) noexcept PAGETRAP_SIGNAL_SAFE {
  Frames frames;
  frames.count = unwind(caller_of(frame), false, frames.addresses.data(), kMostFrames);
  return frames;
}

Frames stack_of(const void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  Frames frames;
  frames.count = unwind(interrupted(context), true, frames.addresses.data(), kMostFrames);
  return frames;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
