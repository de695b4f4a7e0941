#include <pagetrap/gc/root.hpp>

#include <mutex>
#include <new>

#include "gc/heap_state.hpp"
#include "gc/scan.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

void** make_word(HeapState& heap, Slots& slots) {
  const Critical critical(this_gc_thread(heap));
  void** const word = slots.make();
  if (word == nullptr) throw std::bad_alloc();
  return word;
}

void end_word(HeapState* heap, Slots HeapState::*slots, void** word) noexcept {
  if (heap == nullptr) return;
  const Critical critical(this_gc_thread(*heap));
  (heap->*slots).end(word);
}

}  // namespace

RootSlot::RootSlot(Heap& heap) : heap_(heap.state_), word_(make_word(*heap_, heap_->roots)) {}
RootSlot::RootSlot(const RootSlot& other)
    : heap_(other.heap_), word_(make_word(*heap_, heap_->roots)) {
  *word_ = *other.word_;
}
RootSlot::~RootSlot() { end_word(heap_, &HeapState::roots, word_); }

WeakSlot::WeakSlot(Heap& heap, void* object)
    : heap_(heap.state_), word_(make_word(*heap_, heap_->weaks)) {
  set(object);
}
WeakSlot::WeakSlot(const WeakSlot& other)
    : heap_(other.heap_), word_(make_word(*heap_, heap_->weaks)) {
  set(other.get());
}
WeakSlot::~WeakSlot() { end_word(heap_, &HeapState::weaks, word_); }

// RACE the cycle under way may not have come to the object, or find it dead in a moment: who asks
// first, under the lock, decides.
void* WeakSlot::get() const noexcept {
  Thread* const thread = this_gc_thread(*heap_);
  const Critical critical(thread);
  const std::lock_guard guard(heap_->weaks.lock);
  if (thread != nullptr && heap_->scanning.active())
    *word_ = reinterpret_cast<void*>(
        forward(*heap_, thread->worker, reinterpret_cast<std::uintptr_t>(*word_)));
  return *word_;
}

void WeakSlot::set(void* object) noexcept {
  const Critical critical(this_gc_thread(*heap_));
  const std::lock_guard guard(heap_->weaks.lock);
  *word_ = object;
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
