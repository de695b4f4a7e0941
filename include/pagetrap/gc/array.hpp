// array: a collected object that is a row of references, or of plain values.
#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

#include <pagetrap/core/config.hpp>
#include <pagetrap/gc/fields.hpp>
#include <pagetrap/gc/ref.hpp>
#include <pagetrap/gc/type.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// Made by Heap::make_array, zeroed. Its size does not change. Elements are gc::ref, or trivially
/// copyable without references (then it is a leaf).
template <class T>
class array {
  static_assert(detail::is_ref<T> ||
                    (std::is_trivially_copyable_v<T> && detail::references_in<T> == 0),
                "elements: gc::ref, or plain values without references");
  static_assert(alignof(T) <= 8);

 public:
  using value_type = T;

  array(const array&) = delete;
  array& operator=(const array&) = delete;

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] T* data() noexcept { return reinterpret_cast<T*>(this + 1); }
  [[nodiscard]] const T* data() const noexcept { return reinterpret_cast<const T*>(this + 1); }
  T& operator[](std::size_t i) noexcept { return data()[i]; }
  const T& operator[](std::size_t i) const noexcept { return data()[i]; }
  T* begin() noexcept { return data(); }
  T* end() noexcept { return data() + size_; }
  const T* begin() const noexcept { return data(); }
  const T* end() const noexcept { return data() + size_; }
  [[nodiscard]] std::span<T> span() noexcept { return {data(), size_}; }

 private:
  friend class Heap;
  explicit array(std::size_t size) noexcept : size_(size) {}
  static constexpr detail::Type kType{
      detail::is_ref<T> ? detail::Layout::references : detail::Layout::leaf, 0, nullptr, nullptr,
      detail::barriers_of<T>};
  std::size_t size_;
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
