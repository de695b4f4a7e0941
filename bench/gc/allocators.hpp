// The ways to make objects that the programs in this folder are written over. Each has node types
// of its own, a keeper for what lives long, and make/drop: drop does nothing where there is a
// collector.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <pagetrap/gc/gc.hpp>

namespace pagetrap::bench {

/// malloc and free, or functions that do the same.
struct ManualAllocator {
  static constexpr bool kCollects = false;
  void* (*allocate)(std::size_t) = std::malloc;
  void (*release)(void*) = std::free;

  struct Node {
    Node* left = nullptr;
    Node* right = nullptr;
  };
  struct WideNode {
    WideNode* left = nullptr;
    WideNode* right = nullptr;
    int i = 0;
    int j = 0;
  };
  template <class T>
  class Keeper {
   public:
    explicit Keeper(ManualAllocator&, T* object = nullptr) : object_(object) {}
    Keeper& operator=(T* object) {
      object_ = object;
      return *this;
    }
    T* get() const { return object_; }

   private:
    T* object_;
  };

  template <class T, class... Arguments>
  T* make(Arguments... arguments) {
    return new (allocate(sizeof(T))) T{arguments...};
  }
  template <class T>
  void drop(T* object) {
    release(object);
  }
  double* make_numbers(std::size_t count) {
    auto* const numbers = static_cast<double*>(allocate(count * sizeof(double)));
    std::memset(numbers, 0, count * sizeof(double));
    return numbers;
  }
  /// A row of pointers, all null.
  template <class T>
  T** make_row(std::size_t count) {
    auto* const row = static_cast<T**>(allocate(count * sizeof(T*)));
    std::memset(static_cast<void*>(row), 0, count * sizeof(T*));
    return row;
  }
  template <class T>
  using RowKeeper = Keeper<T*>;
  template <class T>
  static T*& element(T** row, std::size_t i) {
    return row[i];
  }
};

/// bdwgc, opened by name.
struct BoehmAllocator : ManualAllocator {
  static constexpr bool kCollects = true;
  void* (*allocate_atomic)(std::size_t) = nullptr;
  // Where the collector looks: memory of its own that is never collected.
  template <class T>
  class Keeper {
   public:
    explicit Keeper(BoehmAllocator& allocator, T* object = nullptr)
        : place_(static_cast<T**>(allocator.allocate_uncollectable(sizeof(T*)))) {
      *place_ = object;
    }
    Keeper& operator=(T* object) {
      *place_ = object;
      return *this;
    }
    T* get() const { return *place_; }

   private:
    T** place_;
  };
  void* (*allocate_uncollectable)(std::size_t) = nullptr;
  template <class T>
  using RowKeeper = Keeper<T*>;
  template <class T>
  void drop(T*) {}
  double* make_numbers(std::size_t count) {
    auto* const numbers = static_cast<double*>(allocate_atomic(count * sizeof(double)));
    std::memset(numbers, 0, count * sizeof(double));
    return numbers;
  }
};

/// Ours, over gc::ref or one of its twins.
template <template <class> class Ref>
struct CollectedAllocatorOf {
  static constexpr bool kCollects = true;
  gc::Heap& heap;
  gc::Mutator* here = nullptr;  // of the thread that made it

  struct Node : gc::object<Node> {
    Ref<Node> left, right;
    static constexpr auto members = gc::members(&Node::left, &Node::right);
  };
  struct WideNode : gc::object<WideNode> {
    Ref<WideNode> left, right;
    int i = 0;
    int j = 0;
    static constexpr auto members = gc::members(&WideNode::left, &WideNode::right);
  };
  template <class T>
  class Keeper {
   public:
    explicit Keeper(CollectedAllocatorOf& allocator, T* object = nullptr)
        : root_(allocator.heap, object) {}
    Keeper& operator=(T* object) {
      root_ = object;
      return *this;
    }
    T* get() const { return root_.get(); }

   private:
    gc::root<T> root_;
  };

  template <class T, class... Arguments>
  T* make(Arguments... arguments) {
    return heap.make<T>(arguments...);
  }
  template <class T>
  void drop(T*) {}
  double* make_numbers(std::size_t count) { return heap.make_array<double>(count)->data(); }
  template <class T>
  gc::array<Ref<T>>* make_row(std::size_t count) {
    return heap.make_array<Ref<T>>(count);
  }
  template <class T>
  using RowKeeper = Keeper<gc::array<Ref<T>>>;
  template <class T>
  static Ref<T>& element(gc::array<Ref<T>>* row, std::size_t i) {
    return (*row)[i];
  }
};
using CollectedAllocator = CollectedAllocatorOf<gc::ref>;

}  // namespace pagetrap::bench
