// Arena: explicit create and destroy, and an address that was an object once is never another. A
// stale access faults and is reported, or finds that object's own bytes. Next: owner.hpp.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/guard/object_type.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

struct ArenaState;  // src/guard/arena/arena_state.hpp

enum class Misuse : std::uint8_t {
  stale_read,       // of memory whose objects were all destroyed
  stale_write,      //
  destroyed_twice,  //
  not_an_object,    // destroy() of what is no object of this arena, or inside of one
  of_another_type,  // destroy() by a pointer to another type than it was created as
};

struct MisuseReport {
  Misuse what = Misuse::stale_read;
  const void* address = nullptr;  // touched, or given to destroy()
  const void* object = nullptr;   // its start; null: no object ever was there
  std::string_view type;          // of the object
  std::size_t size_bytes = 0;
  pid_t thread = 0;
};

/// Told of a misuse. Stale accesses: inside the fault handler of the thread, which may be left by
/// siglongjmp; after it returns the fault goes to whoever handled it before. destroy(): in an
/// ordinary call; after it returns, nothing was destroyed.
using OnMisuse = void (*)(void* self, const MisuseReport& report) noexcept PAGETRAP_SIGNAL_SAFE;

struct ArenaOptions {
  std::size_t reserve_bytes = 64_GiB;  // of addresses; all that will ever be used
  OnMisuse on_misuse = nullptr;        // null: a line on standard error, and the process ends
  void* self = nullptr;                // for on_misuse; borrowed
  std::size_t retire_batch = 64;       // objects of owners that are destroyed together
};

struct ArenaStatistics {
  std::size_t pages_dropped = 0;  // given back to the kernel, and guarded
  std::size_t pages_kept = 0;     // dead, but the kernel refused a guard: stale reads see old bytes
  std::size_t chunks_dropped = 0;   // of 2 MiB, with their page tables
  std::size_t addresses_used = 0;   // bytes
  std::size_t retired = 0;          // objects without an owner that wait for shields
  std::size_t never_destroyed = 0;  // objects without an owner, when memory ran out
};

/// Threads  any; one atomic addition for each object. Moved or ended only while nobody uses it. Its
///          objects end with it without a destructor call.
/// SOURCE   Kedia et al., "Simple, Fast and Safe Manual Memory Management", PLDI 2017.
class PAGETRAP_API Arena {
 public:
  static constexpr std::size_t kMostTypes = 1024;

  Arena() noexcept;
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;

  /// Errors  EINVAL, ENOMEM: addresses (RLIMIT_AS, vm.overcommit_memory=2).
  static Result<Arena> reserve(const ArenaOptions& options = {});

  /// A T at an address that no object had before. std::bad_alloc when addresses or memory are used
  /// up, or with more than kMostTypes types; and what T's constructor throws.
  template <class T, class... Arguments>
  T* create(Arguments&&... arguments) {
    static_assert(alignof(T) <= 4096 && sizeof(T) <= 1_GiB);
    void* const place = allocate(detail::kObjectType<T>);
    try {
      return ::new (place) T(std::forward<Arguments>(arguments)...);
    } catch (...) {
      if (end_life(place, detail::kObjectType<T>)) bury(place, detail::kObjectType<T>);
      throw;
    }
  }

  /// Ends `object`, which create<T>() of this arena gave, with the same T: not by a base class.
  /// Null is allowed. Everything else that is no live T is reported.
  /// Cost  about 2 us when it was the last object in its page, and next to nothing else.
  template <class T>
  void destroy(T* object) noexcept {
    if (object == nullptr || !end_life(object, detail::kObjectType<T>)) return;
    object->~T();
    bury(object, detail::kObjectType<T>);
  }

  /// Whether an object that is alive begins at `address`.
  [[nodiscard]] bool alive(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] PageRange range() const noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] ArenaStatistics statistics() const noexcept;

  /// destroy(object) as soon as no Shield protects it; the next full batch looks, or flush().
  template <class T>
  void retire(T* object) noexcept {
    if (object == nullptr) return;
    retire_object(object, [](Arena& arena, void* retired) noexcept {
      arena.destroy(static_cast<T*>(retired));
    });
  }
  /// Destroy now what was retired and is not protected. Not while holding a lock that destructors
  /// take.
  void flush() noexcept;

 private:
  using Destroy = void (*)(Arena& arena, void* object) noexcept;
  explicit Arena(std::unique_ptr<ArenaState> state) noexcept;
  void* allocate(const ObjectType& type);
  bool end_life(void* object, const ObjectType& type) noexcept;
  void bury(void* object, const ObjectType& type) noexcept;
  void retire_object(void* object, Destroy how) noexcept;

  std::unique_ptr<ArenaState> state_;
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
