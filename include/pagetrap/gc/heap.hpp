// Heap: collected memory in which a reference is a plain pointer. Start reading here;
// docs/design/gc.md tells how.
//
//     struct Node : gc::object<Node> {
//       gc::ref<Node> left, right;
//       static constexpr auto members = gc::members(&Node::left, &Node::right);
//     };
//
//     gc::Heap heap;
//     gc::Mutator here(heap);                          // this thread uses it
//     Node* tree = heap.make<Node>(left, right);       // on the stack: a plain pointer
//     gc::root<Node> kept(heap, tree);                 // elsewhere: a root
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/gc/array.hpp>
#include <pagetrap/gc/barriers.hpp>
#include <pagetrap/gc/object.hpp>
#include <pagetrap/gc/options.hpp>
#include <pagetrap/gc/ref.hpp>
#include <pagetrap/gc/type.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {

struct HeapState;  // src/gc/heap_state.hpp
struct Thread;     // src/gc/thread.hpp

namespace detail {

/// Where this thread allocates: a part of a page, or nowhere.
struct Allocation {
  std::byte* next = nullptr;
  std::byte* end = nullptr;
  HeapState* heap = nullptr;  // the heap that the thread is attached to
};
extern PAGETRAP_API constinit thread_local Allocation allocation;

/// The page is full, the thread is not attached, the object is large, or a cycle is due.
PAGETRAP_API std::byte* allocate_slowly(HeapState* heap, std::size_t size, const Type& type);
PAGETRAP_API void will_destroy(HeapState* heap, void* object);

/// The beginning of an object of `size` bytes (footprint()), all zero after its header.
///
/// The header is there before the object counts: a thread may be stopped between any two
/// instructions, and then every object up to `next` is scanned.
[[gnu::always_inline]] inline std::byte* allocate(HeapState* heap, std::size_t size,
                                                  const Type& type) {
  Allocation& here = allocation;
  std::byte* const object = here.next;
  if (here.heap != heap || size > static_cast<std::size_t>(here.end - object)) [[unlikely]]
    return allocate_slowly(heap, size, type) + Header::kBytes;
  // Two pages ahead, which are taken next and cleared then: a third of an allocation's time.
  __builtin_prefetch(object + 8192, 1);
  new (object) Header(type, size);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  here.next = object + size;
  // Nothing refers to the object before it counts.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return object + Header::kBytes;
}

}  // namespace detail

/// A collected heap. Threads that use it are attached by a Mutator each; at most one heap at a time
/// for each thread.
///
/// Objects move. A pointer on the stack or in a register, to anywhere inside an object, keeps that
/// object where it is; a pointer anywhere else (malloc, globals, thread-locals) is not seen: use
/// root. Two plain pointers to one object are always equal.
///
/// Threads  make and make_array: attached threads. The rest: any.
/// fork()   waits for the cycle under way. With PageSupply::uffd_copy (or none) the child has the
///          heap as well, for the thread that forked; other attached threads must be in
///          Mutator::blocking() meanwhile. Otherwise the child has none, and make() and collect()
///          throw SystemError (EOWNERDEAD) there. Not in a destructor or Options::on_cycle.
class PAGETRAP_API Heap {
 public:
  static Result<Heap> create(const Options& options = {});
  /// The same, or throws SystemError.
  explicit Heap(const Options& options = {}) : Heap(create(options).value()) {}
  /// No thread may be attached, and no root or weak be left. Runs the destructors of all objects.
  ~Heap();
  Heap(Heap&& other) noexcept;
  Heap& operator=(Heap&&) = delete;

  /// A new T{arguments...}. Cost  a few nanoseconds; a page's worth of them takes a page. May stop
  /// the thread for a flip. Throws  OutOfMemory; SystemError if the thread is not attached.
  template <class T, class... Arguments>
  T* make(Arguments&&... arguments) {
    const detail::Type& type = detail::type_of<T>();
    std::byte* const place = detail::allocate(state_, detail::footprint(sizeof(T)), type);
    T* const object = construct<T>(place, std::forward<Arguments>(arguments)...);
    if constexpr (!std::is_trivially_destructible_v<T>) detail::will_destroy(state_, object);
    return object;
  }

  /// A row of `size` elements, all zero. Larger than a page it has pages of its own, and never
  /// moves.
  template <class T>
  array<T>* make_array(std::size_t size) {
    if (size > (std::size_t{1} << 46) / sizeof(T)) throw std::bad_array_new_length();
    const std::size_t bytes = detail::footprint(sizeof(array<T>) + size * sizeof(T));
    return new (detail::allocate(state_, bytes, array<T>::kType)) array<T>(size);
  }

  /// A whole cycle, begun after this call and ended before its return: full, or of the nursery
  /// only. Objects that only stacks point to by accident stay. Not inside Options::on_cycle.
  void collect(bool full = true);

  [[nodiscard]] Statistics statistics() const;
  [[nodiscard]] PageSupply supply() const noexcept;

 private:
  friend class Mutator;
  friend class RootSlot;
  friend class WeakSlot;
  explicit Heap(std::unique_ptr<HeapState> state) noexcept;
  template <class T, class... Arguments>
  static T* construct(std::byte* place, Arguments&&... arguments) {
    if constexpr (std::is_aggregate_v<T> && sizeof...(Arguments) > 0) {
      return new (place) T{{}, std::forward<Arguments>(arguments)...};
    } else {
      return new (place) T{std::forward<Arguments>(arguments)...};
    }
  }
  HeapState* state_;
};

/// Attaches the calling thread to a heap for a scope. Ends in the same thread.
class PAGETRAP_API Mutator {
 public:
  explicit Mutator(Heap& heap);
  ~Mutator();
  Mutator(const Mutator&) = delete;
  Mutator& operator=(const Mutator&) = delete;

  /// Runs `work()`, which may wait for long, and returns what it returns. Meanwhile a flip neither
  /// waits for this thread nor sends it a signal; in exchange `work` touches no object of the heap
  /// but leaves (a system call's buffer) that the stack points to already.
  template <class Work>
  auto blocking(Work&& work) -> decltype(work()) {
    using Answer = decltype(work());
    if constexpr (std::is_void_v<Answer>) {
      auto call = [&] { work(); };
      run_blocking([](void* self) { (*static_cast<decltype(call)*>(self))(); }, &call);
    } else {
      std::optional<Answer> answer;
      auto call = [&] { answer.emplace(work()); };
      run_blocking([](void* self) { (*static_cast<decltype(call)*>(self))(); }, &call);
      return std::move(*answer);
    }
  }

 private:
  void run_blocking(void (*work)(void* self), void* self);
  Thread* thread_;
  // Of the heap that the thread was attached to before.
  detail::Allocation outer_;
  detail::BarrierState outer_barriers_;
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
