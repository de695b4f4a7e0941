// Finding: all that is known of one problem, copied out so that it can be written at leisure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <pagetrap/guard/heap.hpp>
#include <pagetrap/guard/problem.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

inline constexpr std::size_t kMostFrames = 24;

struct Frames {
  std::array<std::uintptr_t, kMostFrames> addresses{};
  std::size_t count = 0;
};

struct WatchedStack;  // stacks/watched_stack.hpp

/// A stack that was used up, instead of an object.
struct UsedUp {
  const WatchedStack* stack = nullptr;
  const void* context = nullptr;  // of the signal
  bool goes_on = false;           // the program has a handler for it
};

struct Finding {
  Problem problem = Problem::wild_access;
  const void* address = nullptr;
  bool is_access = false;  // `write` and `width` mean something
  bool write = false;
  unsigned width = 0;          // bytes; 0: not known
  const char* call = nullptr;  // the function that would have, or did: "read", "operator delete"
  std::size_t call_size = 0;   // what it was told
  Frames here;                 // who did it

  const UsedUp* used_up = nullptr;
  bool has_object = false;  // the nearest one
  const std::byte* object = nullptr;
  std::size_t object_size = 0;
  bool object_freed = false;
  Family object_family = Family::malloc;
  std::uint32_t allocated_at = 0;
  std::uint32_t freed_at = 0;
  std::uint32_t allocated_by = 0;
  std::uint32_t freed_by = 0;
};

/// Writes it to where report_to() said. Does not return unless the process goes on. Signal-safe.
void report(Finding& finding) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
