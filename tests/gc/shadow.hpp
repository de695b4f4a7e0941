// A graph in a collected heap and the same graph outside, changed in the same way: after any number
// of cycles they must be the same.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include <pagetrap/gc/gc.hpp>

namespace pagetrap {

using Bytes = gc::array<std::uint8_t>;

/// `Ref` is gc::ref, or one of its twins.
template <template <class> class Ref>
struct CellOf : gc::object<CellOf<Ref>> {
  static constexpr std::size_t kEdges = 3;
  std::uint64_t id = 0;
  std::array<Ref<CellOf>, kEdges> edges{};
  Ref<Bytes> bytes;
  Ref<gc::array<Ref<CellOf>>> row;
  std::uint64_t stamp = 0;
  static constexpr auto members = gc::members(&CellOf::edges, &CellOf::bytes, &CellOf::row);
};

/// Both graphs. Used by one thread at a time, attached to the heap.
template <template <class> class Ref>
class World {
  using Cell = CellOf<Ref>;

 public:
  World(gc::Heap& heap, std::uint64_t seed);

  /// Changes both, `steps` times, and checks what it comes by.
  void change(std::size_t steps);
  /// Whether they are the same in every edge and byte. Forgets cells that nothing leads to.
  void check();
  [[nodiscard]] std::uint64_t cells() const { return shadows_.size(); }

 private:
  static constexpr std::size_t kRoots = 24;
  static constexpr std::uint64_t kNone = 0;
  struct Shadow {
    std::array<std::uint64_t, Cell::kEdges> edges{};
    std::vector<std::uint64_t> row;
    std::size_t bytes = 0;
  };

  std::uint64_t random(std::uint64_t below);
  Cell* make();
  void give_bytes(Cell* cell);
  void give_row(Cell* cell);
  /// A random walk from a root; null if there is nothing.
  Cell* somewhere();
  void store_edge();
  void store_in_row();
  void check_cell(const Cell* cell) const;
  std::uint64_t id_of(const Cell* cell) const { return cell == nullptr ? kNone : cell->id; }

  gc::Heap& heap_;
  std::uint64_t state_;
  std::uint64_t last_id_ = 0;
  std::uint64_t stamp_ = 0;
  std::vector<gc::root<Cell>> roots_;
  std::array<std::uint64_t, kRoots> shadow_roots_{};
  std::unordered_map<std::uint64_t, Shadow> shadows_;
};

}  // namespace pagetrap
