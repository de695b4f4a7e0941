#include "guard/unwind/capture.hpp"

#include <cstring>
#include <span>

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

bool same(const Registers& a, const Registers& b) noexcept {
  return a.pc == b.pc && a.sp == b.sp && a.bp == b.bp;
}

bool holds(std::uintptr_t address, std::uintptr_t word) noexcept {
  std::uintptr_t found = 0;
  std::memcpy(&found, reinterpret_cast<const void*>(address), sizeof found);
  return found == word;
}

/// Whether a walk from the last of `frames` on would read what it read. (A return address that is
/// still there is not enough: it may be left over from a frame that lay a little higher.)
bool unchanged(std::span<const LastWalk::Frame> frames, std::uintptr_t top) noexcept {
  for (std::size_t i = frames.size() - 1; i-- > 0;) {
    const LastWalk::Frame& frame = frames[i];
    // Not on another stack, from which a signal came to this one.
    if (frame.at.sp <= frames[i + 1].at.sp || frame.at.sp > top) return false;
    if (!holds(frame.at.sp - 8, frame.at.pc) ||
        (frame.bp_read_at != 0 && !holds(frame.bp_read_at, frame.at.bp)) ||
        (frame.sp_read_at != 0 && !holds(frame.sp_read_at, frame.at.sp)))
      return false;
  }
  return true;
}

// The hash of a stack is a polynomial over its frames, so that of any 16 of them follows from two
// sums. Each frame is mixed well before, or permutations of a stack would have one hash.
constexpr std::uint64_t kBase = 0xd6e8feb86659fd93U;

constexpr auto kPowers = [] {
  std::array<std::uint64_t, kKeptFrames + 1> powers{1};
  for (std::size_t i = 1; i < powers.size(); ++i) powers[i] = powers[i - 1] * kBase;
  return powers;
}();

std::uint64_t mixed(std::uint64_t word) noexcept {
  word *= 0x9e3779b97f4a7c15U;
  word = (word ^ word >> 32) * 0xbf58476d1ce4e5b9U;
  return word ^ word >> 29;
}

/// Of the innermost frames, kKeptFrames at most.
std::span<const LastWalk::Frame> kept_of(const LastWalk& last) noexcept {
  const std::span<const LastWalk::Frame> all(last.frames.data(), last.count);
  return last.count > kKeptFrames ? all.last(kKeptFrames) : all;
}

std::uint64_t hash_of(const LastWalk& last) noexcept {
  std::uint64_t hash = last.frames[last.count - 1].sum;
  if (last.count > kKeptFrames) {
    hash -= last.frames[last.count - 1 - kKeptFrames].sum * kPowers[kKeptFrames];
  } else {
    hash -= last.sum_outside * kPowers[last.count];
  }
  return mixed(hash + last.count * (last.count < kKeptFrames ? 1 : 0));
}

/// The walk goes on in `last` from `depth` frames that are as they were.
void push(LastWalk& last, std::size_t depth, std::span<const LastWalk::Frame> inner) noexcept {
  if (depth + inner.size() > LastWalk::kRoom) {
    // What is outside of what is kept goes.
    const std::size_t gone = depth + inner.size() - kKeptFrames;
    last.sum_outside = last.frames[gone - 1].sum;
    last.whole = false;
    std::memmove(last.frames.data(), last.frames.data() + gone,
                 (depth - gone) * sizeof(LastWalk::Frame));
    depth -= gone;
  }
  last.count = depth;
  std::uint64_t sum = depth == 0 ? last.sum_outside : last.frames[depth - 1].sum;
  for (std::size_t i = inner.size(); i-- > 0;) {
    sum = sum * kBase + mixed(inner[i].at.pc);
    last.frames[last.count] = inner[i];
    last.frames[last.count++].sum = sum;
  }
}

}  // namespace

std::uint32_t capture(const void* frame, LastWalk& last, KnownStacks& known) noexcept {
  Walk walk(caller_of(frame), false);
  if (walk.at.pc == 0) return 0;
  std::size_t count = 0;
  std::size_t depth = walk.is_own_stack() ? last.count : 0;
  for (;;) {
    while (depth != 0 && last.frames[depth - 1].at.sp < walk.at.sp) --depth;
    if (depth != 0 && same(last.frames[depth - 1].at, walk.at)) {
      const std::size_t needed = kKeptFrames - count;
      const std::size_t used = depth < needed ? depth : needed;
      if ((depth >= needed || last.whole) &&
          unchanged(std::span(last.frames).first(depth).last(used), walk.top())) {
        if (count == 0 && depth == last.count) return last.stack;
        break;
      }
      depth = 0;
    }
    last.inner[count++] = {walk.at, walk.bp_read_at, walk.sp_read_at};
    const bool ended = count < kKeptFrames && !walk.to_caller();
    if (!ended && count < kKeptFrames) continue;
    depth = 0;
    last.whole = ended;
    last.sum_outside = 0;
    break;
  }
  push(last, depth, {last.inner.data(), count});

  const std::uint64_t hash = hash_of(last);
  KnownStacks::Entry& entry = known.entries[hash % known.entries.size()];
  if (entry.hash != hash || entry.stack == 0) {
    std::array<std::uintptr_t, kKeptFrames> frames;
    const std::span<const LastWalk::Frame> kept = kept_of(last);
    for (std::size_t i = 0; i < kept.size(); ++i) frames[i] = kept[kept.size() - 1 - i].at.pc;
    entry = {hash, remember_stack(frames.data(), kept.size(), hash)};
  }
  last.stack = entry.stack;
  return entry.stack;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
