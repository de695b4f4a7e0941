// Chunks: 2 MiB of addresses that a thread takes at once, and that are given up at once. An address
// is not used again before its whole chunk is dead, and then as late as the reservation allows.
#include <sys/mman.h>  // MADV_DONTNEED

#include "guard/engine/engine.hpp"
#include "sys/memory_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

// A chunk's word: how many of its slots have not died yet, and
constexpr std::uint32_t kRetired = 1U << 30;  // its page tables are gone
constexpr std::uint32_t kUsed = 1U << 29;     // it has been handed out before
constexpr std::uint32_t kCount = kUsed - 1;

// How many chunks are looked at for one that is dead, when all have been used.
constexpr std::size_t kPatience = 64;

}  // namespace

int Engine::retired_neighbours(std::size_t chunk) const noexcept {
  int retired = 0;
  if (chunk > 0 && (chunks_[chunk - 1].load(std::memory_order_relaxed) & kRetired) != 0) ++retired;
  if (chunk + 1 < layout_.chunk_table_size() &&
      (chunks_[chunk + 1].load(std::memory_order_relaxed) & kRetired) != 0)
    ++retired;
  return retired;
}

bool Engine::next_chunk(SizeClass k, ThreadCache::Cursor& cursor) noexcept {
  const std::size_t in_chunk = Layout::slots_in_chunk(k);
  std::size_t chunks = layout_.slots(k) / in_chunk;
  if (k == 1 && quarantine_chunks_ != 0 && quarantine_chunks_ < chunks) chunks = quarantine_chunks_;
  if (chunks == 0) return false;
  for (std::size_t tries = 0; tries < kPatience; ++tries) {
    const std::size_t turn = next_chunk_[k].fetch_add(1, std::memory_order_relaxed);
    const std::size_t first = turn % chunks * in_chunk;
    const std::size_t chunk =
        layout_.chunk_of(reinterpret_cast<const void*>(layout_.start(k, first)));
    std::atomic<std::uint32_t>& word = chunks_[chunk];
    std::uint32_t before = word.load(std::memory_order_acquire);
    if ((before & kCount) != 0) continue;  // somebody's, or an object in it lives on
    if (!word.compare_exchange_strong(before, kUsed | static_cast<std::uint32_t>(in_chunk)))
      continue;
    if (k <= kLastSmall && k != kViews) {
      // Its slots' pages are closed; what a retired one lacks is the kernel's registration.
      const bool fresh_uffd =
          pages_.mechanism() == Mechanism::userfaultfd && (before & kRetired) == 0;
      const int joined = (before & kRetired) != 0 ? retired_neighbours(chunk) : -1;
      if (!fresh_uffd && !pages_.arm(chunk, joined)) {
        word.store(before, std::memory_order_release);
        return false;
      }
    }
    cursor = {first, first + in_chunk};
    return true;
  }
  return false;
}

bool Engine::fresh_slot(ThreadCache& cache, SizeClass k, std::size_t& number) noexcept {
  ThreadCache::Cursor& cursor = cache.cursors[k];
  if (cursor.next == cursor.end && !next_chunk(k, cursor)) return false;
  number = cursor.next++;
  return true;
}

void Engine::slot_died(SizeClass k, std::uintptr_t start) noexcept {
  const std::size_t chunk = layout_.chunk_of(reinterpret_cast<const void*>(start));
  std::atomic<std::uint32_t>& word = chunks_[chunk];
  // RACE the chunk may be taken again as soon as its count is 0. So whoever frees its last object
  // leaves it at 1 until the page tables are gone.
  std::uint32_t before = word.load(std::memory_order_acquire);
  const std::uint32_t last = k > kLastSmall ? 0 : 1;
  while ((before & kCount) != last)
    if (word.compare_exchange_weak(before, before - 1, std::memory_order_acq_rel)) return;
  const bool retired = pages_.retire(chunk, retired_neighbours(chunk));
  if (retired) word.fetch_or(kRetired, std::memory_order_relaxed);
  if (k == 1 && quarantine_chunks_ == 0) remember_dead(chunk, kRemembered);
  word.fetch_sub(1, std::memory_order_release);
}

void Engine::retire_view(std::size_t chunk) noexcept {
  std::atomic<std::uint32_t>& word = chunks_[chunk];
  const bool retired = pages_.retire(chunk, retired_neighbours(chunk));
  remember_dead(chunk, kRememberedViews);
  // RACE it may be taken again as soon as its count is 0: not before its mapping is gone.
  word.store(retired ? kUsed | kRetired : kUsed, std::memory_order_release);
}

// What died long ago is forgotten, unless its addresses may be in use again by then.
void Engine::remember_dead(std::size_t chunk, std::size_t how_many) noexcept {
  if (layout_.size_bytes() < 1_TiB) return;
  const std::size_t turn = deaths_.fetch_add(1, std::memory_order_relaxed) % how_many;
  const std::uint32_t oldest =
      dead_[turn].exchange(static_cast<std::uint32_t>(chunk) + 1, std::memory_order_relaxed);
  if (oldest != 0) forget_chunk(oldest - 1);
}

void Engine::forget_chunk(std::size_t chunk) noexcept {
  const auto* const start = reinterpret_cast<const void*>(layout_.base() + (chunk << kChunkShift));
  const SlotPlace first = layout_.find(start);
  Slot* const slots = &slot(first.size_class, first.number);
  const std::size_t size = Layout::slots_in_chunk(first.size_class) * sizeof(Slot);
  static_cast<void>(sys::plain_madvise(slots, size, MADV_DONTNEED));
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
