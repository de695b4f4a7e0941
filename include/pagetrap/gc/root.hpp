// root and weak: references to collected objects from outside of the heap.
#pragma once

#include <utility>

#include <pagetrap/core/config.hpp>
#include <pagetrap/gc/heap.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// A word that the collector knows of. Threads  one at a time, attached.
class PAGETRAP_API RootSlot {
 public:
  explicit RootSlot(Heap& heap);
  RootSlot(const RootSlot& other);
  RootSlot(RootSlot&& other) noexcept
      : heap_(std::exchange(other.heap_, nullptr)), word_(std::exchange(other.word_, nullptr)) {}
  RootSlot& operator=(const RootSlot&) = delete;
  ~RootSlot();
  [[nodiscard]] void*& word() const noexcept { return *word_; }

 private:
  HeapState* heap_;
  void** word_;
};

/// Keeps an object alive from anywhere: a global, a member of an ordinary class, a container. The
/// object may move; get() says where it is now.
///
/// Cost  two words, a lock to make and to end it; every flip looks at every root.
template <class T>
class root {
 public:
  explicit root(Heap& heap, T* object = nullptr) : slot_(heap) { slot_.word() = object; }
  root(const root& other) : slot_(other.slot_) {}
  root(root&& other) noexcept = default;
  root& operator=(T* object) noexcept {
    slot_.word() = object;
    return *this;
  }
  root& operator=(const root& other) noexcept { return *this = other.get(); }

  [[nodiscard]] T* get() const noexcept { return static_cast<T*>(slot_.word()); }
  operator T*() const noexcept { return get(); }
  T* operator->() const noexcept { return get(); }
  T& operator*() const noexcept { return *get(); }

 private:
  RootSlot slot_;
};

/// As RootSlot, of a reference that keeps nothing alive.
class PAGETRAP_API WeakSlot {
 public:
  explicit WeakSlot(Heap& heap, void* object);
  WeakSlot(const WeakSlot& other);
  WeakSlot(WeakSlot&& other) noexcept
      : heap_(std::exchange(other.heap_, nullptr)), word_(std::exchange(other.word_, nullptr)) {}
  WeakSlot& operator=(const WeakSlot&) = delete;
  ~WeakSlot();
  [[nodiscard]] void* get() const noexcept;
  void set(void* object) noexcept;

 private:
  HeapState* heap_;
  void** word_;
};

/// Refers to an object without keeping it alive: null from the end of the cycle that found it dead.
/// Lives where a root may. get() takes a lock: the object it returns is alive as long as the
/// pointer is on the stack.
template <class T>
class weak {
 public:
  explicit weak(Heap& heap, T* object = nullptr) : slot_(heap, object) {}
  weak(const weak& other) : slot_(other.slot_) {}
  weak(weak&& other) noexcept = default;
  weak& operator=(T* object) noexcept {
    slot_.set(object);
    return *this;
  }
  weak& operator=(const weak& other) noexcept { return *this = other.get(); }

  [[nodiscard]] T* get() const noexcept { return static_cast<T*>(slot_.get()); }

 private:
  WeakSlot slot_;
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
