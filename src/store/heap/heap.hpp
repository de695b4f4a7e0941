// Heap: blocks of any size inside a store. All that it knows is in the store, so that it goes on
// after a restart where it was, and an abort takes its work back with everything else. It is used
// inside transactions only, of which there is one at a time: it needs no lock.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include <pagetrap/core/result.hpp>
#include <pagetrap/store/store.hpp>

#include "store/heap/header.hpp"
#include "store/heap/page_runs.hpp"
#include "store/heap/pointer_map.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class Heap {
 public:
  Heap(std::byte* base, std::size_t reserve_pages) noexcept
      : runs_(base, reserve_pages), map_(runs_, reserve_pages) {}
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  void format() noexcept { runs_.format(); }
  /// Null: there is no room.
  void* allocate(std::size_t size, std::size_t alignment) noexcept;
  void deallocate(void* block, std::size_t size, std::size_t alignment) noexcept;
  /// Blocks of elements of one type, whose pointers are known.
  void* allocate_typed(std::size_t size, std::size_t alignment, const TypeMap& type) noexcept;
  void deallocate_typed(void* block, std::size_t size, std::size_t alignment) noexcept;

  [[nodiscard]] HeapHeader& header() const noexcept { return runs_.header(); }
  void set_announce(PageRuns::Announce announce, void* self) noexcept {
    runs_.set_announce(announce, self);
  }
  void set_grow(PageRuns::Grow grow, void* self) noexcept { runs_.set_grow(grow, self); }
  /// Before anything else: where it turned out to be.
  void set_base(std::byte* base) noexcept { runs_.set_base(base); }
  [[nodiscard]] const PageRuns& runs() const noexcept { return runs_; }
  [[nodiscard]] PointerMap& map() noexcept { return map_; }
  [[nodiscard]] const PointerMap& map() const noexcept { return map_; }

  [[nodiscard]] RootEntry* find_root(std::string_view name) const noexcept;
  /// The object of it; null if there is none. EPROTOTYPE: it was made as something else.
  [[nodiscard]] Result<void*> find_object(std::string_view name, const TypeMark& mark) const;
  [[nodiscard]] std::vector<Root> list_roots() const;
  /// Null: there is no room. Precondition: there is none of that name.
  RootEntry* add_root(std::string_view name, std::string_view type) noexcept;
  /// The entry only; its object is the caller's affair.
  void remove_root(std::string_view name) noexcept;
  [[nodiscard]] static std::string_view name_of(const RootEntry& root) noexcept {
    return {reinterpret_cast<const char*>(&root + 1), root.name_bytes};
  }
  [[nodiscard]] static std::string_view type_of(const RootEntry& root) noexcept {
    return {reinterpret_cast<const char*>(&root + 1) + root.name_bytes,
            root.type_bytes & ~kTypedRoot};
  }

 private:
  [[nodiscard]] RootEntry*& bucket(std::string_view name) const noexcept;
  void* take(std::size_t size, std::size_t alignment) noexcept;
  void take_back(void* block, std::size_t size, std::size_t alignment) noexcept;
  bool make_map() noexcept;
  void mark_root(RootEntry* root) noexcept;
  PageRuns runs_;
  PointerMap map_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
