#include "gc/trap.hpp"

#include "gc/scan.hpp"
#include "gc/traced.hpp"
#include "sys/signal_frame.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

constexpr std::ptrdiff_t kRedZone =
    128;  // below the stack pointer, where leaf functions keep things

// Whether the program may have a reference to something in the page.
bool is_in_use(const HeapState& heap, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE {
  const PageIndex first = first_page_of(heap, page);
  if (heap.spaces.info(first).kind.load(std::memory_order_acquire) == PageKind::free) return false;
  return !heap.scanning.active() || !heap.is_from_space(first);
}

/// Notes where the interrupted code's stack ends, for a flip that finds the thread in its trap,
/// perhaps on an alternate stack.
class Interrupted {
 public:
  Interrupted(Thread& thread, const void* context) noexcept PAGETRAP_SIGNAL_SAFE
      : thread_(thread),
        outer_(thread.trap_sp) {
    if (context == nullptr || outer_ != nullptr) return;
    thread_.trap_sp =
        reinterpret_cast<const std::byte*>(sys::frame_registers(context).sp) - kRedZone;
  }
  ~Interrupted() PAGETRAP_SIGNAL_SAFE { thread_.trap_sp = outer_; }
  Interrupted(const Interrupted&) = delete;
  Interrupted& operator=(const Interrupted&) = delete;

 private:
  Thread& thread_;
  const std::byte* outer_;
};

// What the page refers to is in this thread's buffer: a thread that walks a list comes there next.
// Scanning on fills the buffer, so that its trap is worth a page of objects and not one.
//
// RACE a trap that was raised in an earlier cycle and comes so late that its page is open: the
// collector may have no way to the page of its own in this one.
void scan_for_trap(HeapState& heap, Worker& worker, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE {
  const Scanning::Trap trap(heap.scanning);
  if (!trap.active() || !was_closed(heap, page)) return;
  if (heap.is_marked_in_place(page)) keep_whole(heap, page);
  scan_page(heap, worker, page);
  scan_own_buffer(heap, worker);
}

}  // namespace

// RACE a flip between the first line and the last would make what this does wrong: the thread is
// critical. `interrupted` ends after `critical`, which is where the thread may stop.
Verdict on_trap(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  auto& heap = *static_cast<HeapState*>(self);
  Thread* const thread = this_gc_thread(heap);
  if (thread == nullptr) return Verdict::not_mine;
  const Interrupted interrupted(*thread, fault.context);
  const Critical critical(thread);
  const PageIndex page =
      Spaces::page_at(heap.spaces.offset(reinterpret_cast<std::uintptr_t>(fault.page.base)));
  if (!is_in_use(heap, page)) return Verdict::not_mine;
  Worker& worker = thread->worker;
  worker.traps.store(worker.traps.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  PageInfo& info = heap.spaces.info(page);
  const std::uint32_t cycle = heap.cycle.load(std::memory_order_relaxed);
  if (info.scanned.load(std::memory_order_acquire) != cycle) scan_for_trap(heap, worker, page);
  // A store that comes to a closed page has written to it.
  insist("a page of the old space cannot be opened",
         [&] { return heap.spaces.supplier().open(fault.page, !fault.write); });
  info.opened.store(cycle, std::memory_order_relaxed);
  note_opened(heap, page, 1, Opened::by_trap);
  return Verdict::resolved;
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
