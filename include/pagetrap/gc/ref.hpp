// ref: a reference from one collected object to another. A plain pointer.
#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include <pagetrap/core/config.hpp>
#include <pagetrap/gc/options.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace detail {

/// Initializes anything; never evaluated. See fields.hpp.
struct Anything {
  template <class T>
  constexpr operator T() const noexcept;
};

}  // namespace detail

/// A field of a collected object that refers to another one. Loads and stores are one instruction:
/// there is no barrier.
///
/// It may only live inside collected objects, and be listed there by gc::members(). On stacks and
/// in registers use T*: what a T* points to stays where it is. Elsewhere (globals, containers) use
/// gc::root. It refers to the object's beginning, never into it, so it does not convert to bases.
template <class T>
class ref {
 public:
  constexpr ref() noexcept = default;
  constexpr ref(std::nullptr_t) noexcept {}
  constexpr ref(T* object) noexcept : object_(object) {}
  /// Of a gc::root, say.
  template <class Holder>
  requires(std::is_class_v<Holder> && !std::is_same_v<Holder, detail::Anything> &&
           std::is_convertible_v<const Holder&, T*>) constexpr ref(const Holder& holder) noexcept
      : object_(holder) {}

  [[nodiscard]] constexpr T* get() const noexcept { return object_; }
  constexpr operator T*() const noexcept { return object_; }
  constexpr T* operator->() const noexcept { return object_; }
  constexpr T& operator*() const noexcept { return *object_; }

 private:
  T* object_ = nullptr;
};

static_assert(std::is_trivially_copyable_v<ref<int>> && sizeof(ref<int>) == 8);

namespace detail {

template <class T>
inline constexpr bool is_ref = false;
template <class T>
inline constexpr bool is_ref<ref<T>> = true;

/// The barriers of a reference's loads and stores; of an array of them.
template <class T>
inline constexpr Barriers barriers_of = Barriers::pages;
template <class T, std::size_t kCount>
inline constexpr Barriers barriers_of<std::array<T, kCount>> = barriers_of<T>;

}  // namespace detail
}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
