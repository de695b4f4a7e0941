#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "guard/engine/canary.hpp"
#include "guard/engine/engine.hpp"
#include "guard/unwind/unwind.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

// A type's alignment divides its size, so nothing that fits needs more than this.
std::size_t natural_alignment(std::size_t size, std::size_t least) noexcept {
  const std::size_t lowest = size == 0 ? 16 : size & (~size + 1);
  if (lowest >= 16) return 16;
  return lowest > least ? lowest : least;
}

std::size_t down(std::size_t number, std::size_t alignment) noexcept {
  return number & ~(alignment - 1);
}

}  // namespace

PageRange Engine::pages_of(std::uintptr_t start, std::size_t offset, std::size_t size) noexcept
    PAGETRAP_SIGNAL_SAFE {
  // An object without bytes lies on its guard; the page before it is its own.
  if (size == 0) return page_of(reinterpret_cast<const void*>(start + offset - 1));
  return pages_covering(reinterpret_cast<const void*>(start + offset), size);
}

Engine::Surroundings Engine::surroundings(SizeClass k, std::byte* object, PageRange pages,
                                          std::size_t size) const noexcept {
  if (k != kViews) return {pages.base, pages.end()};
  return {object, object + unit_bytes(unit_for(size))};
}

void Engine::plant_canaries(std::byte* object, std::size_t size, Surroundings all) noexcept {
  const std::size_t most = options_.canary_bytes;
  const auto before = static_cast<std::size_t>(object - all.begin);
  const auto after = static_cast<std::size_t>(all.end - object) - size;
  const std::size_t left = before < most ? before : most;
  plant(object - left, object);
  plant(object + size, object + size + (after < most ? after : most));
}

void* Engine::fallback(std::size_t size, std::size_t alignment, bool zeroed) noexcept {
  if (options_.fallback.allocate == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  if (!fallback_used_.load(std::memory_order_relaxed)) fallback_used_.store(true);
  void* const block = options_.fallback.allocate(alignment < 16 ? 16 : alignment, size);
  if (block != nullptr && zeroed) std::memset(block, 0, size);
  if (ThreadCache* const mine = cache()) mine->fallbacks += 1;
  return block;
}

void* Engine::allocate(std::size_t size, std::size_t alignment, Family family, bool zeroed,
                       const void* frame) noexcept {
  if (let_through_count_.load(std::memory_order_relaxed) != 0) close_again();
  const std::size_t natural = natural_alignment(size, options_.least_alignment);
  if (alignment < natural) alignment = natural;
  if (size > layout_.size_bytes() / kShares || alignment > layout_.size_bytes() / kShares)
    return fallback(size, alignment, zeroed);
  std::size_t room = pages_for(size).count();
  if (room == 0) room = 1;
  const bool spread = alignment > page_size();
  SizeClass k = Layout::class_for(room + (spread ? alignment >> page_shift() : 0));
  ThreadCache* const mine = cache();
  if (mine == nullptr || k >= kClasses || (options_.one_in > 1 && k > 1))
    return fallback(size, alignment, zeroed);

  if (cold_.on() && cold_.too_many()) pack_some();
  std::size_t number = 0;
  std::size_t offset = 0;
  bool open = false;
  if (options_.strength == Strength::alias && size != 0 && size <= kLargestShared &&
      alignment <= 16 && take_shared(*mine, size, number, offset)) {
    k = kViews;
    open = true;
  } else if (k == 1 && mine->ready_count != 0) {
    number = mine->ready[--mine->ready_count];
    open = true;
  } else if (!fresh_slot(*mine, k, number)) {
    return fallback(size, alignment, zeroed);
  }
  const std::uintptr_t start = layout_.start(k, number);

  // The start is on the left if so wished, and if the alignment leaves no choice.
  const bool left =
      options_.side == Side::left || (options_.side == Side::random && (mine->any() & 1) != 0);
  if (k == kViews) {
    // Where it is free.
  } else if (spread) {
    offset = ((start + alignment - 1) & ~(alignment - 1)) - start;
    if (size == 0 && offset == 0) offset = alignment;  // the page before it is its own
  } else if (size == 0 || !left) {
    offset = down((room << page_shift()) - size, alignment);
  }
  const PageRange pages = pages_of(start, offset, size);
  const bool large = k > kLastSmall;
  if (!open && !(large ? pages_.open_large(pages) : pages_.open(pages))) {
    slot_died(k, start);
    return fallback(size, alignment, zeroed);
  }
  bool stays = false;
  if (cold_.on() && k == 1) {
    // The C library touches its own blocks within fork(), where nobody could bring them back.
    stays = c_library_.contains(caller_of(frame).pc);
    if (!stays) cold_.became_more(number);
  }
  auto* const object = reinterpret_cast<std::byte*>(start + offset);
  plant_canaries(object, size, surroundings(k, object, pages, size));
  if (zeroed && open) std::memset(object, 0, size);

  Slot& facts = slot(k, number);
  facts.offset = offset;
  facts.allocated_at =
      options_.record_stacks ? capture(frame, mine->stacks.allocations, mine->stacks.known) : 0;
  facts.allocated_by = mine->thread;
  facts.facts.store(Facts(SlotState::live, family, size, stays).word(), std::memory_order_release);
  mine->allocations += 1;
  return object;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
