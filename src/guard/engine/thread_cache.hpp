// ThreadCache: the addresses that a thread hands out by itself, so that threads share no lock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>

#include "guard/alias/views.hpp"
#include "guard/engine/layout.hpp"
#include "guard/unwind/capture.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

inline constexpr std::size_t kHeaps = 4;

struct ThreadCache {
  struct Cursor {
    std::size_t next = 0;
    std::size_t end = 0;
  };
  // Slots of class 1 whose page is open already, with the frame of an object that was freed.
  static constexpr std::size_t kMostReady = 512;

  std::array<Cursor, kClasses> cursors{};
  std::array<std::uint32_t, kMostReady> ready{};
  std::size_t ready_count = 0;
  ThreadViews views{};
  Capture stacks{};
  std::uint64_t random = 1;
  std::uint32_t thread = 0;       // its id
  ThreadCache* next = nullptr;    // while nobody's
  std::uint64_t allocations = 0;  // written by the owner only; read by statistics()
  std::uint64_t releases = 0;
  std::uint64_t fallbacks = 0;
  ThreadCache* all_next = nullptr;

  /// xorshift64*: good enough to choose a side, and nothing depends on more.
  std::uint32_t any() noexcept {
    random ^= random >> 12;
    random ^= random << 25;
    random ^= random >> 27;
    return static_cast<std::uint32_t>((random * 0x2545f4914f6cdd1dU) >> 32);
  }
};

/// Of this thread, for each heap of the process.
struct ThreadCaches {
  std::array<ThreadCache*, kHeaps> of_heap{};
  std::array<std::uint32_t, kHeaps> heap_epoch{};  // a heap that ended, and another in its place
};

ThreadCaches& this_threads_caches() noexcept;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
