// The twins: references with barriers in instructions, for heaps that have Options::barriers. They
// are there to be compared with gc::ref (docs/design/gc.md, "The twins"); programs use that one.
#pragma once

#include <cstddef>
#include <type_traits>

#include <pagetrap/core/config.hpp>
#include <pagetrap/gc/barriers.hpp>
#include <pagetrap/gc/fields.hpp>
#include <pagetrap/gc/options.hpp>
#include <pagetrap/gc/ref.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// As gc::ref, and may live where that may; but its load asks whether the object has moved, its
/// store notes where it was, or both. Used by attached threads alone.
template <class T, Barriers kBarriers>
class twin_ref {
  static constexpr bool kChecked = has(kBarriers, Barriers::checked_loads);
  static constexpr bool kCarded = has(kBarriers, Barriers::carded_stores);

 public:
  // A constructor marks nothing: its object is new.
  constexpr twin_ref() noexcept = default;
  constexpr twin_ref(std::nullptr_t) noexcept {}
  constexpr twin_ref(T* object) noexcept : object_(object) {}
  twin_ref(const twin_ref& other) noexcept : object_(other.get()) {}
  /// Of a gc::root, say.
  template <class Holder>
  requires(std::is_class_v<Holder> && !std::is_same_v<Holder, detail::Anything> &&
           std::is_convertible_v<const Holder&, T*>) twin_ref(const Holder& holder)
  noexcept : object_(holder) {}
  ~twin_ref() = default;

  twin_ref& operator=(T* object) noexcept {
    store(object);
    return *this;
  }
  twin_ref& operator=(std::nullptr_t) noexcept { return *this = static_cast<T*>(nullptr); }
  twin_ref& operator=(const twin_ref& other) noexcept { return *this = other.get(); }

  [[nodiscard]] T* get() const noexcept {
    if constexpr (kChecked) {
      return detail::checked_load(object_);
    } else {
      return object_;
    }
  }
  operator T*() const noexcept { return get(); }
  T* operator->() const noexcept { return get(); }
  T& operator*() const noexcept { return *get(); }
  /// Whether it refers to nothing is seen without a barrier.
  bool operator==(std::nullptr_t) const noexcept { return object_ == nullptr; }

 private:
  void store(T* object) noexcept {
    if constexpr (kCarded) {
      detail::carded_store(object_, object);
    } else {
      object_ = object;
    }
  }
  T* object_ = nullptr;
};

/// Baker's read barrier instead of page traps.
template <class T>
using checked_ref = twin_ref<T, Barriers::checked_loads>;
/// A card-marking write barrier instead of DIRTY pages.
template <class T>
using carded_ref = twin_ref<T, Barriers::carded_stores>;
/// Both: nothing of virtual memory is left.
template <class T>
using instructed_ref = twin_ref<T, Barriers::both>;

namespace detail {

template <class T, Barriers kBarriers>
inline constexpr bool is_ref<twin_ref<T, kBarriers>> = true;
template <class T, Barriers kBarriers>
inline constexpr Barriers barriers_of<twin_ref<T, kBarriers>> = kBarriers;

}  // namespace detail
}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
