// Packing: objects that were opened longest ago lose their pages.
//
// A page is moved away first, in one call, and packed then: whoever touches it meanwhile waits for
// the thread that serves faults, which waits for the slot's word.
#include <sys/mman.h>

#include <algorithm>
#include <string_view>

#include "guard/engine/engine.hpp"
#include "sys/memory_calls.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

constexpr std::size_t kMostAtOnce = 64;  // moved away before their frames are given back

}  // namespace

PageRange Engine::staging_page(std::size_t turn) const noexcept {
  return {reinterpret_cast<std::byte*>(layout_.start(1, cold_.staging)) + (turn << page_shift()),
          Pages{1}};
}

bool Engine::begin_serving() noexcept {
  ThreadCache::Cursor chunk;
  // A chunk of our own, which is never given up: pages can be moved to where faults are served
  // only.
  if (next_chunk(1, chunk)) {
    cold_.staging = chunk.next;
    if (pages_.deliver_to_thread() && start_thread()) {
      cold_.served.store(true, std::memory_order_release);
      return true;
    }
  }
  cold_.refused.store(true, std::memory_order_relaxed);
  constexpr std::string_view kWords =
      "pagetrap: guard: blocks cannot be packed (no thread, or no userfaultfd): all stay in "
      "memory\n";
  static_cast<void>(sys::write_all(2, kWords.data(), kWords.size()));
  return false;
}

void Engine::pack_some() noexcept {
  // One thread at a time; the others go on. (And this one does when it allocates in here.)
  if (cold_.refused.load(std::memory_order_relaxed) ||
      cold_.packing.load(std::memory_order_relaxed))
    return;
  // A signal's handler would wait for this thread if it touched what is on its way.
  const sys::AllSignalsBlocked no_interruption(sys::AllSignalsBlocked::But::faults);
  if (cold_.packing.exchange(true, std::memory_order_acquire)) return;
  if (cold_.served.load(std::memory_order_relaxed) || begin_serving()) {
    const std::size_t in_chunk = Layout::slots_in_chunk(1);
    std::size_t slots = next_chunk_[1].load(std::memory_order_relaxed) * in_chunk;
    if (slots > layout_.slots(1)) slots = layout_.slots(1);
    std::size_t packed = 0;
    // Of a small budget only a part.
    const std::size_t wanted = std::min(kMostAtOnce, cold_.budget_pages() / 4 + 1);
    // Lap after lap over what there was when the lap began, in the order of addresses, which is
    // that of allocation: what came since, or came back behind the hand, is looked at in the next
    // one.
    for (std::size_t passed = 0; passed < 2 * slots && packed < wanted;) {
      if (cold_.hand >= cold_.lap_end) {
        cold_.hand = 0;
        cold_.lap_end = slots;
      }
      const std::size_t number = cold_.hand;
      const bool empty = cold_.hot_in_chunk(number).load(std::memory_order_relaxed) == 0;
      const std::size_t step = empty ? in_chunk - number % in_chunk : 1;
      if (!empty && pack_one(number, packed)) ++packed;
      cold_.hand += step;
      passed += step;
    }
    if (packed != 0)
      static_cast<void>(sys::advise({staging_page(0).base, Pages{packed}}, MADV_DONTNEED));
    cold_.packed_ever.fetch_add(packed, std::memory_order_relaxed);
    cold_.look_again(packed != 0);
  }
  cold_.packing.store(false, std::memory_order_release);
}

bool Engine::pack_one(std::size_t number, std::size_t turn) noexcept {
  const Slot& known = slot(1, number);
  Facts facts = known.read();
  if (facts.state() != SlotState::live || facts.stays() || facts.size() == 0) return false;
  std::atomic<Packed>& word = cold_.word(number);
  Packed expected = kHot;
  if (!word.compare_exchange_strong(expected, kMoving, std::memory_order_acq_rel)) return false;
  // RACE it was freed before the word was ours: its page is closed. Afterwards it cannot be: who
  // frees it waits for the word.
  facts = known.read();
  const PageRange page = page_of(reinterpret_cast<const void*>(layout_.start(1, number)));
  const PageRange staged = staging_page(turn);
  if (facts.state() != SlotState::live || !pages_.move(page, staged)) {
    // EBUSY: a system call has it pinned, or a fork()ed child shares it. It stays.
    word.store(kHot, std::memory_order_release);
    return false;
  }
  std::byte* const object = staged.base + known.offset;
  Packed copy = kNoCopy;
  // With damaged known bytes it stays as it is, for whoever frees it.
  if (damaged_canary(object, facts.size(), {staged.base, staged.end()}) == nullptr)
    copy = cold_.store.put(object, facts.size());
  if (copy == kNoCopy && put_back(staged, page)) {
    word.store(kHot, std::memory_order_release);
    return false;
  }
  cold_.became_less(number);
  word.store(copy, std::memory_order_release);
  return true;
}

bool Engine::put_back(PageRange staged, PageRange page) noexcept {
  for (;;) {
    if (pages_.move(staged, page)) return true;
    // RACE a wrong access to it, while it was being freed, has poisoned it.
    static_cast<void>(sys::advise(page, MADV_DONTNEED));
    sys::yield();
  }
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
