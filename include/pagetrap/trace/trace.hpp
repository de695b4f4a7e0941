// The event ring: what pagetrap did, recorded from anywhere, fault handlers included.
//
// PAGETRAP_TRACE=fault,protect,... (or all) in the environment switches kinds on.
// PAGETRAP_TRACE_FILE names a file to hold the ring, so that another process can watch it; without
// it the ring is private memory. PAGETRAP_TRACE_EVENTS is how many events it keeps (65536). With
// PAGETRAP_TRACE unset an event costs one load and one branch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap::trace {
inline namespace v0 {

/// Kinds of event. Numbers are part of the file format: retired ones are never reused.
enum class Kind : std::uint16_t {
  fault = 0,      // address; detail: kind bits | write << 8 | duration in ns << 16
  protect = 1,    // address; detail: pages << 8 | access
  unprotect = 2,  // address; detail: pages
  supply = 3,     // address; detail: pages << 8 | how
  evict = 4,   // address; detail: pages << 8 | 0 evicted, 1 discarded, 2 guard, 3 unguard, 4 moved
  dirty = 5,   // address; detail: pages found
  freeze = 6,  // address; detail: duration in ns
  thaw = 7,    // address
  lift = 8,    // address; detail: duration in ns
  region = 9,  // address; detail: pages << 8 | 0 created, 1 destroyed
  chain = 10,  // address; detail: signal number: a fault passed on to an earlier handler

  // A collected heap. Of a flip, in this order: flip, close, pin, scan, open, pause. What says that
  // it saturates has the largest number that fits for all that is larger.
  flip = 11,   // the heap's base, all threads have stopped; detail: closed space's pages (32 bits)
               // | cycle number (30 bits) << 32 | full << 62 | lifted << 63
  pause = 12,  // the heap's base, threads go on; detail: ns until all had stopped (saturates)
               // | ns from then until now (saturates) << 32
  close = 13,  // first page; detail: pages << 8 | 0 closed by the flip, 1 closed since it is new
  scan = 14,   // page that begins to be scanned, once for most in a cycle; detail: 0
  open = 15,   // first page; detail: pages << 8 | 0 scanned, 1 scanned by its trap, 2 by the flip
               // since it is pinned, 3 nothing to scan there
  pin = 16,    // page that a stack refers to: it stays where it is; detail: 1 if it is never closed
  stall = 17,  // the heap's base; detail: ns that a thread waited for a cycle, or helped it, before
               // it got memory
  cycle = 18,  // the heap's base, a cycle has ended; detail, each saturating: traps (20 bits)
               // | pages copied (22 bits) << 20 | pages scanned (22 bits) << 42
};
inline constexpr std::size_t kKindCount = 19;

/// One event; 40 bytes, little-endian in files.
struct Event {
  std::uint64_t sequence = 0;     // 1, 2, 3 ...; 0 while it is being written
  std::uint64_t nanoseconds = 0;  // CLOCK_MONOTONIC
  std::uint64_t address = 0;
  std::uint64_t detail = 0;  // see Kind
  std::uint32_t thread = 0;  // kernel thread id
  Kind kind = Kind::fault;
  std::uint16_t reserved = 0;
};
static_assert(sizeof(Event) == 40);

/// Start of a trace file; the events follow at offset 4096.
struct FileHeader {
  char magic[8];              // "PTTRACE1"
  std::uint32_t version;      // 1
  std::uint32_t event_bytes;  // sizeof(Event)
  std::uint64_t capacity;     // events, a power of two
  std::uint64_t next;         // sequence number last given out; grows without bound
  std::uint64_t process;      // pid of the writer
};

/// Record an event if its kind is on. Signal-safe, any thread. Cost: a load and a branch when off,
/// about 50 ns when on. Overwrites the oldest event when full.
PAGETRAP_API void record(Kind kind, const void* address, std::uint64_t detail) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// Whether `kind` is on: for callers whose detail costs something to compute. Signal-safe; a load.
PAGETRAP_API bool enabled(Kind kind) noexcept PAGETRAP_SIGNAL_SAFE;

/// Switch to `kinds` (comma-separated names, "all", "" for none) with a ring of `capacity` events
/// (rounded up to a power of two; 0: 65536), in `file` if not empty. Called once by itself with the
/// environment's values when the library is loaded; call it yourself to override. Not signal-safe.
/// Errors  EINVAL names an unknown kind; those of open(2), ftruncate(2), mmap(2). EBUSY: the ring
///         exists already with another size or file (it is never unmapped, a handler may be in it).
PAGETRAP_API Result<Done> configure(std::string_view kinds, std::size_t capacity = 0,
                                    const std::string& file = {});

/// Copy the newest events into `out`, oldest first; returns how many. Events overwritten or still
/// being written meanwhile are left out. Not signal-safe; any thread.
PAGETRAP_API std::size_t snapshot(std::span<Event> out);

/// Name of a kind as in PAGETRAP_TRACE.
PAGETRAP_API const char* name(Kind kind) noexcept;
}  // namespace v0
}  // namespace pagetrap::trace
