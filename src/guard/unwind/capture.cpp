#include "guard/unwind/capture.hpp"

#include <cstring>

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

/// Whether the walk from frame `from` on would read what it read. (A return address that is still
/// there is not enough: it may be left over from a frame that lay a little higher.)
bool unchanged(const LastWalk::Frames& met, std::size_t from, std::uintptr_t top) noexcept {
  for (std::size_t i = from + 1; i < met.count; ++i) {
    const LastWalk::Frame& frame = met.frame[i];
    // Not on another stack, from which a signal came to this one.
    if (frame.at.sp <= met.frame[i - 1].at.sp || frame.at.sp > top) return false;
    if (!holds(frame.at.sp - 8, frame.at.pc) ||
        (frame.bp_read_at != 0 && !holds(frame.bp_read_at, frame.at.bp)) ||
        (frame.sp_read_at != 0 && !holds(frame.sp_read_at, frame.at.sp)))
      return false;
  }
  return true;
}

// Wide and well mixed, since two stacks of one hash would be one to known stacks. Two lanes, that
// do not wait for each other.
std::uint64_t hash_of(const LastWalk::Frames& met) noexcept {
  constexpr std::uint64_t kFactor = 0x9e3779b97f4a7c15U;
  std::array<std::uint64_t, 2> lanes{met.count, kFactor};
  for (std::size_t i = 0; i < met.count; ++i) {
    std::uint64_t& lane = lanes[i % 2];
    lane = (lane ^ met.frame[i].at.pc) * kFactor;
    lane ^= lane >> 29;
  }
  const std::uint64_t whole = (lanes[0] ^ lanes[1] << 32 ^ lanes[1] >> 32) * kFactor;
  return whole ^ whole >> 32;
}

}  // namespace

std::uint32_t capture(const void* frame, LastWalk& last, KnownStacks& known) noexcept {
  const LastWalk::Frames& before = last.walks[last.last];
  LastWalk::Frames& now = last.walks[1 - last.last];
  Walk walk(caller_of(frame), false);
  now.count = 0;
  std::size_t old = 0;
  bool may_join = walk.is_own_stack();
  if (walk.at.pc == 0) return 0;
  do {
    if (may_join) {
      while (old < before.count && before.frame[old].at.sp < walk.at.sp) ++old;
      if (old < before.count && same(before.frame[old].at, walk.at)) {
        may_join = unchanged(before, old, walk.top());
        if (may_join) {
          if (now.count == 0 && old == 0) return last.stack;
          while (old < before.count && now.count < kKeptFrames)
            now.frame[now.count++] = before.frame[old++];
          if (now.count == kKeptFrames || before.count < kKeptFrames) break;
          walk.at = now.frame[now.count - 1].at;  // and on from there, by rules
          may_join = false;
          continue;
        }
      }
    }
    now.frame[now.count++] = {walk.at, walk.bp_read_at, walk.sp_read_at};
  } while (now.count < kKeptFrames && walk.to_caller());
  last.last = 1 - last.last;

  const std::uint64_t hash = hash_of(now);
  KnownStacks::Entry& entry = known.entries[hash % known.entries.size()];
  if (entry.hash != hash || entry.stack == 0) {
    std::array<std::uintptr_t, kKeptFrames> frames;
    for (std::size_t i = 0; i < now.count; ++i) frames[i] = now.frame[i].at.pc;
    entry = {hash, remember_stack(frames.data(), now.count, hash)};
  }
  last.stack = entry.stack;
  return entry.stack;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
