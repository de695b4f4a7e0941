// What the fault path keeps for each thread.
//
// Trivial, constant-initialised, small and with the initial-exec model: the first touch inside a
// handler then allocates nothing (measured: an 8 KiB thread_local of a dlopen'ed library did one
// allocation, a small initial-exec one none). The compiler's proof of signal safety knows no such
// exception for thread-locals, so they live behind this one function, the second place where it is
// waived.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

/// A fault handler that this thread is inside of, unless it was left by siglongjmp.
struct RunningHandler {
  void* region = nullptr;         // the RegionState that it pins
  const void* context = nullptr;  // in the signal frame
  unsigned phase = 0;
};

struct ThreadState {
  pid_t id = 0;                              // remembered gettid(2), 0: not asked yet
  int handler_depth = 0;                     // running.cpp: fault handlers this thread is inside of
  void* last_region = nullptr;               // registry.cpp: the RegionState of the last fault
  std::array<RunningHandler, 4> handlers{};  // the outermost ones
  const void* protected_page = nullptr;      // running.hpp: what the innermost fault is about
  const void* served_channel = nullptr;  // channel.cpp: this thread is one of its handler threads
  bool found_tables_moving = false;      // channel.cpp: EAGAIN, and this is who ends it
  // signals.cpp: the fault that is being passed on to an earlier handler
  void* passing_context = nullptr;
  void* passing_frame = nullptr;
  int passing_entry = 0;
  // keys.cpp
  std::uint32_t handlers_with_keys = 0;
  bool granted_in_handler = false;  // perhaps: rights given where a signal handler begins without
  std::array<std::uint8_t, 16> windows{};  // open windows by protection key
  std::uint32_t pager_depth = 0;  // pager/gate.hpp: calls of the pager this thread is inside of
  bool is_own = false;            // company.hpp: a thread of the library's
  void* collected = nullptr;      // gc/thread.hpp: the gc::Thread that this thread is attached as
  // dispatch.cpp: the last fault that was taken for one raised before a thaw
  const void* stale_address = nullptr;
  std::uint32_t stale_thaws = 0;
};
static_assert(sizeof(ThreadState) <= 256);

extern PAGETRAP_API constinit thread_local ThreadState thread_state;

#if defined(__clang__) && __clang_major__ >= 20
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wfunction-effects"
#endif
inline ThreadState& this_thread() noexcept PAGETRAP_SIGNAL_SAFE { return thread_state; }
#if defined(__clang__) && __clang_major__ >= 20
#pragma clang diagnostic pop
#endif

}  // namespace pagetrap::sys
