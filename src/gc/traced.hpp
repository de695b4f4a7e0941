// What a heap tells the event ring (pagetrap/trace/trace.hpp has the meaning of each detail). Each
// call is a load and a branch where its kind is off.
#pragma once

#include <algorithm>
#include <cstdint>

#include "gc/heap_state.hpp"
#include "sys/signal_safe_calls.hpp"
#include "trace/switched_on.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

constexpr std::uint64_t saturated(std::uint64_t number, unsigned bits) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t most = (std::uint64_t{1} << bits) - 1;
  return number < most ? number : most;
}

enum class Closed : std::uint8_t { by_flip, new_page };
enum class Opened : std::uint8_t { scanned, by_trap, pinned, clean };

inline void note_closed(const HeapState& heap, PageIndex first, std::size_t pages,
                        Closed how) noexcept PAGETRAP_SIGNAL_SAFE {
  trace::note(trace::Kind::close, heap.spaces.address(first),
              pages << 8 | static_cast<unsigned>(how));
}
inline void note_opened(const HeapState& heap, PageIndex first, std::size_t pages,
                        Opened how) noexcept PAGETRAP_SIGNAL_SAFE {
  trace::note(trace::Kind::open, heap.spaces.address(first),
              pages << 8 | static_cast<unsigned>(how));
}
inline void note_scan(const HeapState& heap, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE {
  trace::note(trace::Kind::scan, heap.spaces.address(page), 0);
}
/// A page that is marked in place may be scanned dozens of times: only the first is told.
inline void note_first_scan(const HeapState& heap, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE {
  if (trace::switched_on(trace::Kind::scan) && !heap.marks.is_begun(page)) [[unlikely]]
    note_scan(heap, page);
}
inline void note_pin(const HeapState& heap, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE {
  trace::note(trace::Kind::pin, heap.spaces.address(page), heap.spaces.is_supplied(page) ? 0 : 1);
}

/// Once the cycle has its number. `lifted`: all that was ever used is closed already.
inline void note_flip(const HeapState& heap, bool lifted) noexcept {
  trace::note(trace::Kind::flip, heap.spaces.base(),
              std::uint64_t{heap.spaces.large.end} |
                  std::uint64_t{heap.report.number & 0x3fffffff} << 32 |
                  std::uint64_t{heap.report.full} << 62 | std::uint64_t{lifted} << 63);
  if (!lifted) return;
  const PageSpan old{heap.spaces.old.begin, heap.old_pages.wild()};
  const PageSpan large{heap.spaces.large.begin, heap.large.wild()};
  for (const PageSpan span : {old, large})
    if (span.size() != 0) note_closed(heap, span.begin, span.size(), Closed::by_flip);
}
/// In nanoseconds of the monotonic clock.
inline void note_pause(const HeapState& heap, std::uint64_t asked, std::uint64_t stopped,
                       std::uint64_t now) noexcept {
  trace::note(trace::Kind::pause, heap.spaces.base(),
              saturated(stopped - asked, 32) | saturated(now - stopped, 32) << 32);
}
inline void note_cycle(const HeapState& heap) noexcept {
  const std::uint64_t copied = (heap.report.copied_bytes + kPageBytes - 1) / kPageBytes;
  trace::note(trace::Kind::cycle, heap.spaces.base(),
              saturated(heap.report.traps, 20) | saturated(copied, 22) << 20 |
                  saturated(heap.report.scanned_pages, 22) << 42);
}

/// A scope in which a thread works for a cycle, or waits for one, because it wants memory.
class NotedStall {
 public:
  explicit NotedStall(const HeapState& heap) noexcept : heap_(heap) {
    if (trace::switched_on(trace::Kind::stall)) [[unlikely]]
      begin_ = sys::monotonic_nanoseconds();
  }
  ~NotedStall() {
    if (begin_ != 0) [[unlikely]]
      trace::note(trace::Kind::stall, heap_.spaces.base(), sys::monotonic_nanoseconds() - begin_);
  }
  NotedStall(const NotedStall&) = delete;
  NotedStall& operator=(const NotedStall&) = delete;

 private:
  const HeapState& heap_;
  std::uint64_t begin_ = 0;
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
