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

// NOLINTNEXTLINE(readability-identifier-naming,bugprone-reserved-identifier): not our name
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

}  // namespace

Walk::Walk(Registers registers, bool exact) noexcept PAGETRAP_SIGNAL_SAFE
    : at(registers),
      top_(top_of_stack(registers.sp)),
      own_stack_(top_ != registers.sp + kForeignStack),
      exact_(exact) {}

bool Walk::to_caller() noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t rule = rule_at(exact_ ? at.pc : at.pc - 1);
  exact_ = false;
  bp_read_at = 0;
  sp_read_at = 0;
  std::uintptr_t frame = 0;
  const auto offset = static_cast<std::uintptr_t>(extend(rule & 0xffffff));
  switch (static_cast<FrameRule::Frame>((rule >> 48) & 15)) {
    case FrameRule::Frame::from_sp:
      frame = at.sp + offset;
      break;
    case FrameRule::Frame::from_bp:
      frame = at.bp + offset;
      break;
    case FrameRule::Frame::at_bp: {
      const std::uintptr_t from = at.bp + offset;
      if (from < at.sp || from > top_ - 8) return false;
      sp_read_at = from;
      frame = word_at(from);
      break;
    }
    case FrameRule::Frame::interrupted:
      // After the return from the handler, sp is at the context.
      if (at.sp > top_ - sizeof(ucontext_t)) return false;
      at = interrupted(reinterpret_cast<const void*>(at.sp));
      top_ = top_of_stack(at.sp);
      exact_ = true;
      return at.pc != 0;
    default:
      return false;
  }
  // Frames only go up, and every word that is read is on the stack.
  if (frame <= at.sp || frame > top_ || (frame & 7) != 0) return false;
  const auto bp_offset = static_cast<std::uintptr_t>(extend((rule >> 24) & 0xffffff));
  const auto saved = static_cast<FrameRule::SavedBp>((rule >> 52) & 15);
  if (saved != FrameRule::SavedBp::unchanged) {
    const std::uintptr_t from = (saved == FrameRule::SavedBp::in_frame ? frame : at.bp) + bp_offset;
    if (from < at.sp || from > top_ - 8) return false;
    bp_read_at = from;
    at.bp = word_at(from);
  }
  at.pc = word_at(frame - 8);
  at.sp = frame;
  return at.pc != 0;
}

[[gnu::flatten]] std::size_t unwind(Registers registers, bool exact, std::uintptr_t* frames,
                                    std::size_t most) noexcept PAGETRAP_SIGNAL_SAFE {
  if (registers.pc == 0 || most == 0) return 0;
  Walk walk(registers, exact);
  std::size_t count = 0;
  do {
    frames[count++] = walk.at.pc;
  } while (count < most && walk.to_caller());
  return count;
}

std::size_t unwind(Registers registers, bool exact, std::span<StackFrame> frames) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (registers.pc == 0 || frames.empty()) return 0;
  Walk walk(registers, exact);
  std::size_t count = 0;
  do {
    const bool returns_here = count != 0 || !exact;
    const std::uintptr_t pc = walk.at.pc;
    frames[count++] = {pc, function_at(pc - (returns_here ? 1 : 0)), walk.at.sp};
  } while (count < frames.size() && walk.to_caller());
  return count;
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
