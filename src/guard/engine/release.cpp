#include <cerrno>
#include <cstring>

#include "guard/engine/canary.hpp"
#include "guard/engine/engine.hpp"
#include "guard/unwind/unwind.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

const char* name_of_release(Family family) noexcept {
  switch (family) {
    case Family::new_single:
      return "operator delete";
    case Family::new_array:
      return "operator delete[]";
    case Family::resource:
      return "deallocate";
    default:
      return "free";
  }
}

}  // namespace

void Engine::tell(Finding& finding, const void* frame) noexcept {
  finding.here = stack_from(frame);
  report(finding);
}

std::byte* Engine::damaged_canary(std::byte* object, std::size_t size, Surroundings all) noexcept {
  const std::size_t most = options_.canary_bytes;
  const auto before = static_cast<std::size_t>(object - all.begin);
  const auto after = static_cast<std::size_t>(all.end - object) - size;
  std::byte* const end = object + size + (after < most ? after : most);
  if (std::byte* const changed = first_changed(object + size, end); changed != end) return changed;
  std::byte* const changed = last_changed(object - (before < most ? before : most), object);
  return changed != object ? changed : nullptr;
}

bool Engine::releasable(void* block, const SlotPlace& place, Facts facts, const void* frame,
                        const char* call) noexcept {
  const Slot& known = slot(place.size_class, place.number);
  if (facts.state() == SlotState::live &&
      place.start + known.offset == reinterpret_cast<std::uintptr_t>(block))
    return true;
  Finding finding;
  finding.address = block;
  finding.call = call;
  const bool twice = facts.state() == SlotState::freed &&
                     place.start + known.offset == reinterpret_cast<std::uintptr_t>(block);
  finding.problem = twice ? Problem::double_free : Problem::invalid_free;
  if (!about(place, finding)) nearest(place, block, finding);
  tell(finding, frame);
  return false;
}

void Engine::close_slot(ThreadCache* cache, const SlotPlace& place, PageRange pages) noexcept {
  if (place.size_class == kViews) {
    const std::size_t offset = slot(kViews, place.number).offset;
    return close_shared(cache, place.number, offset);
  }
  if (place.size_class > kLastSmall) {
    pages_.close_large(pages);
  } else {
    std::size_t fresh = 0;
    bool moved = false;
    // The frame goes to the next address, in one call that takes this one's rights away.
    if (place.size_class == 1 && cache != nullptr && options_.one_in == 1 &&
        cache->ready_count < ThreadCache::kMostReady &&
        pages_.mechanism() == Mechanism::userfaultfd && fresh_slot(*cache, 1, fresh)) {
      const auto* const to = reinterpret_cast<const void*>(layout_.start(1, fresh));
      moved = pages_.move(pages, page_of(to));
      if (moved) {
        cache->ready[cache->ready_count++] = static_cast<std::uint32_t>(fresh);
      } else {
        slot_died(1, layout_.start(1, fresh));
      }
    }
    if (!moved) pages_.close(pages);
  }
  slot_died(place.size_class, place.start);
}

void Engine::release(void* block, Family family, std::size_t size, const void* frame) noexcept {
  if (!layout_.contains(block)) {
    // Where all are guarded, a foreign address is nobody's.
    if (fallback_used_.load(std::memory_order_relaxed)) {
      options_.fallback.release(block);
      return;
    }
    Finding finding;
    finding.problem = Problem::invalid_free;
    finding.address = block;
    finding.call = name_of_release(family);
    return tell(finding, frame);
  }
  if (let_through_count_.load(std::memory_order_relaxed) != 0) close_again();
  const SlotPlace place = layout_.find(block);
  Slot& known = slot(place.size_class, place.number);
  // Three lines that are seldom in the cache; the stack is taken while they come.
  __builtin_prefetch(&known, 1);
  __builtin_prefetch(&chunks_[layout_.chunk_of(block)], 1);
  __builtin_prefetch(block);
  ThreadCache* const mine = cache();
  const std::uint32_t stack = options_.record_stacks && mine != nullptr
                                  ? capture(frame, mine->stacks.releases, mine->stacks.known)
                                  : 0;
  Facts facts = known.read();
  if (!releasable(block, place, facts, frame, name_of_release(family))) return;
  std::uint64_t word = facts.word();
  // RACE two threads free one block: the second finds it freed.
  if (!known.facts.compare_exchange_strong(
          word, Facts(SlotState::freed, facts.family(), facts.size()).word(),
          std::memory_order_acq_rel)) {
    static_cast<void>(releasable(block, place, Facts(word), frame, name_of_release(family)));
    return;
  }
  known.freed_at = stack;
  known.freed_by = mine != nullptr ? mine->thread : 0;
  if (mine != nullptr) mine->releases += 1;

  const bool may_be_cold = place.size_class == 1 && cold_.on();
  const Packed copy = may_be_cold ? cold_.claim(place.number) : kHot;
  const PageRange pages = pages_of(place.start, known.offset, facts.size());
  auto* const object = static_cast<std::byte*>(block);
  const auto find = [&](Problem problem, const void* address) {
    Finding finding;
    finding.problem = problem;
    finding.address = address;
    finding.call = name_of_release(family);
    finding.call_size = size;
    static_cast<void>(about(place, finding));
    finding.object_freed = false;  // but by this very call
    finding.freed_at = 0;
    tell(finding, frame);
  };
  // A copy was made of it when its known bytes were as they should be.
  const std::byte* const changed =
      copy != kHot ? nullptr
                   : damaged_canary(object, facts.size(),
                                    surroundings(place.size_class, object, pages, facts.size()));
  if (changed != nullptr) find(Problem::overwritten, changed);
  if (family != facts.family()) {
    find(Problem::wrong_function, block);
  } else if (size != engine::kUnknownSize && size != facts.size()) {
    find(Problem::wrong_size, block);
  }
  if (copy != kHot) {
    cold_.store.drop(copy, facts.size());  // its page is closed already
    slot_died(place.size_class, place.start);
  } else {
    if (may_be_cold && !facts.stays()) cold_.became_less(place.number);
    close_slot(mine, place, pages);
  }
  if (may_be_cold) cold_.word(place.number).store(kHot, std::memory_order_release);
}

void* Engine::reallocate(void* block, std::size_t size, const void* frame) noexcept {
  if (block == nullptr) return allocate(size, 1, Family::malloc, false, frame);
  std::size_t old = 0;
  if (layout_.contains(block)) {
    const SlotPlace place = layout_.find(block);
    const Facts facts = slot(place.size_class, place.number).read();
    if (!releasable(block, place, facts, frame, "realloc")) {
      errno = ENOMEM;
      return nullptr;
    }
    old = facts.size();
  } else if (fallback_used_.load(std::memory_order_relaxed)) {
    old = options_.fallback.usable_size(block);
  } else {
    release(block, Family::malloc, engine::kUnknownSize, frame);  // which reports it
    return nullptr;
  }
  if (size == 0) {
    release(block, Family::malloc, engine::kUnknownSize, frame);
    return nullptr;
  }
  void* const moved = allocate(size, 1, Family::malloc, false, frame);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, block, old < size ? old : size);
  release(block, Family::malloc, engine::kUnknownSize, frame);
  return moved;
}

std::size_t Engine::usable_size(const void* block) const noexcept {
  if (block == nullptr) return 0;
  if (!layout_.contains(block))
    return options_.fallback.usable_size != nullptr
               ? options_.fallback.usable_size(const_cast<void*>(block))
               : 0;
  const SlotPlace place = layout_.find(block);
  return slot(place.size_class, place.number).read().size();
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
