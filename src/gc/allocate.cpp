#include "gc/allocate.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "gc/collector.hpp"
#include "gc/flip.hpp"
#include "gc/fork.hpp"
#include "gc/traced.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

using detail::Allocation;
using detail::Header;
using detail::Layout;
using detail::Type;

bool is_full_due(const HeapState& heap) noexcept {
  const auto alive = static_cast<double>(heap.old_alive);
  const std::size_t slack = heap.options.growth_bytes / kPageBytes;
  return static_cast<double>(heap.old_used()) >
         alive + std::max(alive * heap.options.growth, static_cast<double>(slack));
}

namespace {

std::size_t limit_pages(const HeapState& heap) noexcept {
  return heap.options.limit_bytes / kPageBytes;
}

bool is_over_limit(const HeapState& heap, std::size_t pages) noexcept {
  return heap.used_pages() + pages > limit_pages(heap);
}

// Until `pages` more are allowed. During a cycle from-space counts twice: that is waited for.
void make_room(HeapState& heap, Thread& thread, std::size_t pages) {
  const NotedStall noted(heap);
  wait_for_end(heap, &thread);
  // The second one evacuates what the first has found sparse.
  for (int cycles = 0; cycles < 2 && is_over_limit(heap, pages); ++cycles)
    if (const Outcome outcome = collect(heap, &thread, true); failed(outcome))
      throw SystemError(outcome);
  if (is_over_limit(heap, pages))
    throw OutOfMemory(pages * kPageBytes, heap.used_pages() * kPageBytes, heap.options.limit_bytes);
}

std::uint64_t next_random(std::uint64_t& state) noexcept {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

// Tests: any allocation may flip, or be in the middle of a cycle.
void stress(HeapState& heap, Thread& thread) {
  const std::uint64_t random = next_random(thread.random);
  if (heap.stage.load(std::memory_order_acquire) == Stage::idle) {
    if (random % 32 == 0) static_cast<void>(begin_cycle(heap, &thread, random / 32 % 4 == 0));
    return;
  }
  if (heap.options.collectors == 0)
    for (std::uint64_t i = random % 4; i > 0; --i) help(heap, &thread);
}

// With nursery_lock.
bool take_chunk(HeapState& heap, Thread& thread) noexcept {
  const std::lock_guard guard(heap.nursery_lock);
  std::size_t listed = heap.nursery_free.size();
  while (thread.chunk_left < thread.chunk.size()) {
    PageIndex page = kNoPage;
    if (listed != 0) {
      page = heap.nursery_free.at(--listed) - 1;
    } else if (heap.nursery_wild < heap.spaces.nursery.end) {
      page = heap.nursery_wild++;
    } else {
      break;
    }
    thread.chunk[thread.chunk_left++] = page;
  }
  heap.nursery_free.shrink(listed);
  std::reverse(thread.chunk.begin(), thread.chunk.begin() + thread.chunk_left);
  return thread.chunk_left != 0;
}

// The page that the thread allocates in is full; false: there is no other one. Critical.
bool take_page(HeapState& heap, Thread& thread) noexcept {
  Allocation& here = *thread.allocation;
  if (thread.page != kNoPage) {
    const auto fill = static_cast<std::uint32_t>(here.next - heap.spaces.address(thread.page));
    heap.spaces.info(thread.page).fill.store(fill, std::memory_order_release);
    thread.page = kNoPage;
    here.next = here.end = thread.page_end = nullptr;
  }
  if (thread.chunk_left == 0 && !take_chunk(heap, thread)) return false;
  const PageIndex page = thread.chunk[--thread.chunk_left];
  std::byte* const start = heap.spaces.address(page);
  PageInfo& info = heap.spaces.info(page);
  // Where there were objects before. Fields must be zero before their constructor runs.
  if (info.epoch.load(std::memory_order_relaxed) != 0) std::memset(start, 0, kPageBytes);
  info.fill.store(0, std::memory_order_relaxed);
  info.epoch.store(heap.cycle.load(std::memory_order_relaxed), std::memory_order_relaxed);
  info.kind.store(PageKind::young, std::memory_order_release);
  heap.nursery_taken.fetch_add(1, std::memory_order_relaxed);
  heap.nursery_in_use.fetch_add(1, std::memory_order_relaxed);
  thread.page = page;
  thread.page_end = start + kPageBytes;
  here.next = start;
  here.end = heap.options.stress_seed != 0 ? start : thread.page_end;
  return true;
}

// A cycle should be over before as much again has been allocated: from half of that on threads help
// to scan before they take a page, and at the whole (twice, of a small one) they wait.
void keep_pace(HeapState& heap, Thread& thread) {
  const std::size_t taken = heap.nursery_taken.load(std::memory_order_relaxed);
  const std::size_t smallest = heap.options.nursery_bytes / kPageBytes;
  const std::size_t budget = heap.nursery_budget.load(std::memory_order_relaxed);
  if (taken <= budget / 2 && heap.options.collectors != 0) return;
  const NotedStall noted(heap);
  if (taken > std::max(2 * smallest, budget)) return wait_for_end(heap, &thread);
  if (heap.options.collectors == 0) {
    for (int i = 0; i < 8; ++i) help(heap, &thread);
  } else {
    help_scanning(heap, thread, taken > budget ? 4 : 1);
  }
}

// Before a thread takes more: whether a cycle is due, or the limit reached.
void before_taking(HeapState& heap, Thread& thread, std::size_t pages) {
  park_if_asked(thread);
  if (heap.stage.load(std::memory_order_acquire) != Stage::idle) {
    keep_pace(heap, thread);
  } else if (heap.nursery_taken.load(std::memory_order_relaxed) >=
             heap.nursery_budget.load(std::memory_order_relaxed)) {
    const Outcome outcome = begin_cycle(heap, &thread, is_full_due(heap));
    // No memory for it now: the nursery is larger than that, and the next page asks again.
    const bool may_pass = outcome.number == EBUSY || outcome.number == ENOMEM;
    if (failed(outcome) && !may_pass) throw SystemError(outcome);
  }
  if (is_over_limit(heap, pages)) make_room(heap, thread, pages);
}

std::byte* allocate_small(HeapState& heap, Thread& thread, std::size_t size, const Type& type) {
  for (;;) {
    Allocation& here = *thread.allocation;
    std::byte* const object = here.next;
    if (thread.page != kNoPage && size <= static_cast<std::size_t>(thread.page_end - object)) {
      new (object) Header(type, size);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      here.next = object + size;
      if (heap.options.stress_seed != 0) here.end = here.next;
      return object;
    }
    before_taking(heap, thread, 1);
    bool taken = false;
    {
      const Critical critical(&thread);
      taken = take_page(heap, thread);
    }
    if (taken) continue;
    // The nursery is used up: the cycle under way, or a new one, empties it.
    const NotedStall noted(heap);
    if (heap.stage.load(std::memory_order_acquire) != Stage::idle) {
      wait_for_end(heap, &thread);
    } else if (const Outcome outcome = collect(heap, &thread, true); failed(outcome)) {
      throw SystemError(outcome);
    }
  }
}

void describe_pages(HeapState& heap, PageIndex first, std::size_t pages, std::size_t size,
                    PageKind kind) noexcept {
  const std::uint32_t cycle = heap.cycle.load(std::memory_order_relaxed);
  for (std::size_t i = pages; i-- > 0;) {
    PageInfo& info = heap.spaces.info(first + static_cast<PageIndex>(i));
    const std::size_t in_page = std::min(size - i * kPageBytes, kPageBytes);
    info.fill.store(static_cast<std::uint32_t>(in_page), std::memory_order_relaxed);
    info.scanned.store(cycle, std::memory_order_relaxed);
    info.opened.store(cycle, std::memory_order_relaxed);
    info.epoch.store(cycle, std::memory_order_relaxed);
    info.extent = static_cast<std::uint32_t>(i == 0 ? pages : i);
    info.kind.store(i == 0 ? kind : PageKind::tail, std::memory_order_release);
  }
}

void forget_pages(HeapState& heap, PageIndex first, std::size_t pages) noexcept {
  for (std::size_t i = 0; i < pages; ++i)
    heap.spaces.info(first + static_cast<PageIndex>(i)).kind.store(PageKind::free);
}

// Null: no run of so many pages. Critical.
std::byte* take_large(HeapState& heap, std::size_t pages, std::size_t size, const Type& type) {
  const bool is_leaf = type.layout == Layout::leaf;
  LargeObjects& objects = is_leaf ? heap.large_leaf : heap.large;
  const PageIndex first = objects.take(pages);
  if (first == kNoPage) return nullptr;
  const PageRange range = heap.spaces.range(first, pages);
  describe_pages(heap, first, pages, size,
                 is_leaf ? PageKind::young_leaf_large : PageKind::young_large);
  const Header header(type, size);
  if (is_leaf) {
    new (range.base) Header(header);
  } else if (const Outcome placed = heap.spaces.supplier().place(range, header.word());
             failed(placed)) {
    forget_pages(heap, first, pages);
    objects.give(first, pages);
    throw SystemError(placed);
  } else {
    heap.new_large.push(first + 1);
  }
  objects.add(first);
  heap.nursery_taken.fetch_add(pages, std::memory_order_relaxed);
  return heap.spaces.address(first);
}

std::byte* allocate_large(HeapState& heap, Thread& thread, std::size_t size, const Type& type) {
  const std::size_t pages = (size + kPageBytes - 1) / kPageBytes;
  for (int attempts = 0; attempts < 2; ++attempts) {
    before_taking(heap, thread, pages);
    {
      const Critical critical(&thread);
      if (std::byte* const object = take_large(heap, pages, size, type)) return object;
    }
    if (const Outcome outcome = collect(heap, &thread, true); failed(outcome))
      throw SystemError(outcome);
  }
  throw OutOfMemory(size, heap.used_pages() * kPageBytes, heap.options.limit_bytes);
}

}  // namespace

namespace detail {

std::byte* allocate_slowly(HeapState* heap, std::size_t size, const Type& type) {
  Thread* const thread = this_gc_thread();
  if (heap == nullptr || thread == nullptr || thread->heap != heap || !thread->attached)
    throw SystemError(
        Error{"gc::Heap::make", EPERM, {}, "attach this thread first: gc::Mutator here(heap)"});
  check_usable(*heap);
  if (type.layout != Layout::leaf && type.barriers != heap->twin.barriers)
    throw SystemError(Error{"gc::Heap::make",
                            EINVAL,
                            {},
                            "references of this type have not the barriers that Options say"});
  if (heap->options.stress_seed != 0) stress(*heap, *thread);
  return size > Header::kLargestSmall ? allocate_large(*heap, *thread, size, type)
                                      : allocate_small(*heap, *thread, size, type);
}

void will_destroy(HeapState* heap, void* object) {
  const Critical critical(this_gc_thread(*heap));
  const std::lock_guard guard(heap->destroy_lock);
  heap->to_destroy.push(reinterpret_cast<std::uint64_t>(object));
}

}  // namespace detail
}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
