// Arena: memory that can be checkpointed, with its allocator inside: a restored arena goes on
// allocating where the saved one was.
#pragma once

#include <cstddef>
#include <memory>
#include <memory_resource>
#include <new>
#include <string>
#include <utility>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

class Checkpointer;
struct ArenaState;  // src/checkpoint/arena.cpp

/// A named range of addresses that is the same in every process of the program, and a
/// std::pmr::memory_resource on it. Made by Checkpointer::arena(), which owns it.
///
/// Plain pointers into the arena stay good over a restore. Objects with virtual functions do not;
/// std::pmr containers do, with resource() as theirs.
///
/// Allocation is segregated by size class, four to a doubling; freed memory is used again for its
/// own class. Each class has a lock, and all of them are held during a cut, so that an image never
/// has half an allocation in it. Threads  any.
class PAGETRAP_API Arena {
 public:
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// All addresses that it may ever use.
  [[nodiscard]] PageRange range() const noexcept;
  /// Of these, from the front: what has been handed out at some time.
  [[nodiscard]] std::size_t used_bytes() const noexcept;

  /// std::bad_alloc when the capacity is used up. Its address is the same in every process.
  [[nodiscard]] std::pmr::memory_resource* resource() const noexcept;

  /// The root object: where a restored program finds its data. Null until set_root().
  template <class T>
  [[nodiscard]] T* root() const noexcept {
    return static_cast<T*>(root_pointer());
  }
  void set_root(void* object) noexcept;

  /// A T in the arena; a std::pmr container gets resource() by itself. Ends with destroy(), or with
  /// the arena, without a destructor call.
  template <class T, class... Arguments>
  T* make(Arguments&&... arguments) {
    return std::pmr::polymorphic_allocator<>(resource())
        .template new_object<T>(std::forward<Arguments>(arguments)...);
  }
  template <class T>
  void destroy(T* object) {
    std::pmr::polymorphic_allocator<>(resource()).delete_object(object);
  }

 private:
  friend class Checkpointer;
  friend struct CheckpointerState;
  Arena(std::string name, ArenaState* state) noexcept : name_(std::move(name)), state_(state) {}
  [[nodiscard]] void* root_pointer() const noexcept;
  std::string name_;
  ArenaState* state_;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
