// Allocator: the STL allocator of a store, with plain pointers. Its blocks are typed: the store
// knows where they have pointers, and can be mapped at another address.
//
//   using Text = std::basic_string<char, std::char_traits<char>, store::Allocator<char>>;
//   using Words = std::map<Text, int, std::less<>, store::Allocator<std::pair<const Text, int>>>;
//   auto& words = *store.root<Words>("words").value();  // with <pagetrap/store/containers.hpp>
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include <pagetrap/core/config.hpp>
#include <pagetrap/store/pointers.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

class StoreState;  // src/store/store_state.hpp

/// Where typed blocks come from: one in each open store, in front of its data. Not yours to make.
class PAGETRAP_API TypedMemory {
 public:
  explicit TypedMemory(StoreState& state) noexcept : state_(&state) {}
  /// Throws std::bad_alloc, or SystemError{EPERM} outside a transaction.
  void* allocate(std::size_t size, std::size_t alignment, const TypeMap& map);
  void deallocate(void* block, std::size_t size, std::size_t alignment) noexcept;

 private:
  StoreState* state_;
};

/// As std::pmr::polymorphic_allocator: without a store it is the heap's, so that keys and copies
/// outside of the store have the same types; it does not follow assignments; elements are made by
/// uses-allocator construction, so that containers in containers get it by themselves.
template <class T>
class Allocator {
 public:
  using value_type = T;

  Allocator() noexcept = default;
  explicit Allocator(TypedMemory* memory) noexcept : memory_(memory) {}
  template <class U>
  Allocator(const Allocator<U>& other) noexcept : memory_(other.memory()) {}

  [[nodiscard]] T* allocate(std::size_t count) {
    if (count > std::numeric_limits<std::size_t>::max() / sizeof(T))
      throw std::bad_array_new_length();
    const TypeMap& map = type_map<T>();
    if (memory_ == nullptr) return std::allocator<T>().allocate(count);
    return static_cast<T*>(memory_->allocate(count * sizeof(T), alignof(T), map));
  }
  void deallocate(T* block, std::size_t count) noexcept {
    if (memory_ == nullptr) return std::allocator<T>().deallocate(block, count);
    memory_->deallocate(block, count * sizeof(T), alignof(T));
  }
  [[nodiscard]] Allocator select_on_container_copy_construction() const noexcept { return {}; }
  template <class U, class... Arguments>
  void construct(U* place, Arguments&&... arguments) {
    std::uninitialized_construct_using_allocator(place, *this,
                                                 std::forward<Arguments>(arguments)...);
  }

  [[nodiscard]] TypedMemory* memory() const noexcept { return memory_; }
  template <class U>
  bool operator==(const Allocator<U>& other) const noexcept {
    return memory_ == other.memory();
  }

 private:
  TypedMemory* memory_ = nullptr;
};

template <class T>
struct Pointers<Allocator<T>> : PointersAt<0> {};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
