// Owner and Shield: who may end an object of an Arena, and who reads it meanwhile. A shield costs
// two plain stores; whoever ends objects pays the barrier, once for a batch.
#pragma once

#include <atomic>
#include <cassert>
#include <cstddef>
#include <utility>

#include <pagetrap/core/config.hpp>
#include <pagetrap/guard/arena.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

namespace detail {

/// An address that no freer may end meanwhile; null: none.
using ShieldSlot = std::atomic<const void*>;

/// The calling thread's free slots, as a stack of pointers.
struct FreeShields {
  ShieldSlot** bottom = nullptr;
  ShieldSlot** top = nullptr;
};
extern PAGETRAP_API constinit thread_local FreeShields free_shields;

/// The thread has none left, or none yet: makes some. std::bad_alloc.
PAGETRAP_API void make_shields();

}  // namespace detail

template <class T>
class Shield;

/// The one place where an object is reached from. Shields may be made from it by any thread while
/// another one resets it; it may not be moved or ended meanwhile.
template <class T>
class Owner {
 public:
  Owner() noexcept = default;
  /// Takes over `object`, which `arena` created. The arena must outlive the owner.
  Owner(Arena& arena, T* object) noexcept : arena_(&arena), object_(object) {}
  template <class... Arguments>
  static Owner make(Arena& arena, Arguments&&... arguments) {
    return Owner(arena, arena.template create<T>(std::forward<Arguments>(arguments)...));
  }
  ~Owner() { reset(); }
  Owner(Owner&& other) noexcept : arena_(other.arena_), object_(other.object_.exchange(nullptr)) {}
  Owner& operator=(Owner&& other) noexcept {
    if (this != &other) {
      reset();
      arena_ = other.arena_;
      object_.store(other.object_.exchange(nullptr));
    }
    return *this;
  }

  /// Nobody gets to the present object any more, but `replacement` (of the same arena). The old one
  /// is destroyed when no shield protects it.
  void reset(T* replacement = nullptr) noexcept {
    assert(arena_ != nullptr || replacement == nullptr);  // of which arena would it be?
    if (arena_ != nullptr) arena_->retire(object_.exchange(replacement));
  }
  [[nodiscard]] bool empty() const noexcept {
    return object_.load(std::memory_order_relaxed) == nullptr;
  }

 private:
  friend class Shield<T>;
  Arena* arena_ = nullptr;
  std::atomic<T*> object_{nullptr};
};

/// While it exists, the object that its owner had is not destroyed. Made and ended in one thread.
/// In handlers of asynchronous signals: yes, if the thread has had one before.
///
/// RACE  the owner's thread takes the object away, makes every thread pass a barrier, and reads all
///       slots. Either it sees this slot, or the store was not before the barrier: then the second
///       look at the owner is after it, and sees the object gone. A signal fence keeps the compiler
///       from exchanging the two; the barrier keeps the processor from it.
/// SOURCE  Parkinson et al., "Project Snowflake", OOPSLA 2017; membarrier(2).
template <class T>
class Shield {
 public:
  explicit Shield(const Owner<T>& owner) {
    detail::FreeShields& mine = detail::free_shields;
    if (mine.top == mine.bottom) [[unlikely]]
      detail::make_shields();
    slot_ = *--mine.top;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    object_ = owner.object_.load(std::memory_order_relaxed);
    for (;;) {
      slot_->store(object_, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      T* const still = owner.object_.load(std::memory_order_acquire);
      if (still == object_) [[likely]]
        break;
      object_ = still;
    }
  }
  ~Shield() {
    // Release: what was read under it was read before.
    slot_->store(nullptr, std::memory_order_release);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    *detail::free_shields.top++ = slot_;
  }
  Shield(const Shield&) = delete;
  Shield& operator=(const Shield&) = delete;

  /// Null if the owner was empty.
  [[nodiscard]] T* get() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }
  T* operator->() const noexcept { return object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }

 private:
  detail::ShieldSlot* slot_;
  T* object_;
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
