#include "gc/shadow.hpp"

#include <gtest/gtest.h>

namespace pagetrap {
namespace {

std::uint8_t pattern(std::uint64_t id, std::size_t i) {
  return static_cast<std::uint8_t>(id * 31 + i * 7);
}

}  // namespace

template <template <class> class Ref>
World<Ref>::World(gc::Heap& heap, std::uint64_t seed) : heap_(heap), state_(seed * 2 + 1) {
  for (std::size_t i = 0; i < kRoots; ++i) roots_.emplace_back(heap);
}

template <template <class> class Ref>
std::uint64_t World<Ref>::random(std::uint64_t below) {
  state_ ^= state_ << 13;
  state_ ^= state_ >> 7;
  state_ ^= state_ << 17;
  return (state_ >> 11) % below;
}

template <template <class> class Ref>
CellOf<Ref>* World<Ref>::make() {
  Cell* const cell = heap_.make<Cell>();
  cell->id = ++last_id_;
  shadows_.emplace(cell->id, Shadow{});
  return cell;
}

template <template <class> class Ref>
void World<Ref>::give_bytes(Cell* cell) {
  // Mostly small, now and then of a page or of many.
  const std::uint64_t kind = random(200);
  const std::size_t size = kind == 0  ? 5000 + random(60000)
                           : kind < 4 ? 1000 + random(3000)
                                      : random(100);
  auto* const bytes = heap_.make_array<std::uint8_t>(size);
  for (std::size_t i = 0; i < size; ++i) (*bytes)[i] = pattern(cell->id, i);
  cell->bytes = bytes;
  shadows_.at(cell->id).bytes = size;
}

template <template <class> class Ref>
void World<Ref>::give_row(Cell* cell) {
  const std::size_t size = random(60) == 0 ? 600 + random(3000) : 1 + random(40);
  cell->row = heap_.make_array<Ref<Cell>>(size);
  shadows_.at(cell->id).row.assign(size, kNone);
}

template <template <class> class Ref>
void World<Ref>::check_cell(const Cell* cell) const {
  const auto found = shadows_.find(cell->id);
  ASSERT_NE(found, shadows_.end()) << "a cell that was forgotten, or none: " << cell->id;
  const Shadow& shadow = found->second;
  for (std::size_t i = 0; i < Cell::kEdges; ++i)
    ASSERT_EQ(id_of(cell->edges[i]), shadow.edges[i]) << "edge " << i << " of " << cell->id;
  if (cell->bytes != nullptr) {
    ASSERT_EQ(cell->bytes->size(), shadow.bytes);
    for (std::size_t i = 0; i < shadow.bytes; ++i)
      ASSERT_EQ((*cell->bytes)[i], pattern(cell->id, i)) << "byte " << i << " of " << cell->id;
  }
  ASSERT_EQ(cell->row == nullptr ? 0 : cell->row->size(), shadow.row.size());
  for (std::size_t i = 0; i < shadow.row.size(); ++i)
    ASSERT_EQ(id_of((*cell->row)[i]), shadow.row[i]) << "row " << i << " of " << cell->id;
}

template <template <class> class Ref>
CellOf<Ref>* World<Ref>::somewhere() {
  Cell* cell = roots_[random(kRoots)];
  for (std::uint64_t steps = random(12); cell != nullptr && steps > 0; --steps) {
    Cell* next = cell->edges[random(Cell::kEdges)];
    if (random(4) == 0 && cell->row != nullptr) next = (*cell->row)[random(cell->row->size())];
    if (next == nullptr) break;
    cell = next;
  }
  return cell;
}

template <template <class> class Ref>
void World<Ref>::store_edge() {
  Cell* const from = somewhere();
  if (from == nullptr) return;
  Cell* const to = random(5) == 0 ? nullptr : random(2) == 0 ? somewhere() : make();
  const std::size_t edge = random(Cell::kEdges);
  from->edges[edge] = to;
  shadows_.at(from->id).edges[edge] = id_of(to);
}

template <template <class> class Ref>
void World<Ref>::store_in_row() {
  Cell* const from = somewhere();
  if (from == nullptr) return;
  if (from->row == nullptr) return give_row(from);
  Cell* const to = random(3) == 0 ? nullptr : random(2) == 0 ? somewhere() : make();
  const std::size_t place = random(from->row->size());
  (*from->row)[place] = to;
  shadows_.at(from->id).row[place] = id_of(to);
}

template <template <class> class Ref>
void World<Ref>::change(std::size_t steps) {
  for (; steps > 0 && !testing::Test::HasFatalFailure(); --steps) {
    const std::size_t place = random(kRoots);
    switch (random(16)) {
      case 0:
        roots_[place] = make();
        shadow_roots_[place] = last_id_;
        break;
      case 1:
        if (Cell* const cell = somewhere(); cell != nullptr) {
          roots_[place] = cell;
          shadow_roots_[place] = cell->id;
        }
        break;
      case 2:
        if (random(8) == 0) {
          roots_[place] = nullptr;
          shadow_roots_[place] = kNone;
        }
        break;
      case 3:
        if (Cell* const cell = somewhere(); cell != nullptr) give_bytes(cell);
        break;
      case 4:
      case 5:
        store_in_row();
        break;
      case 6:
        heap_.make_array<std::uint8_t>(random(500));  // garbage
        break;
      case 7:
        if (const Cell* const cell = somewhere(); cell != nullptr) check_cell(cell);
        break;
      default:
        store_edge();
    }
  }
}

// A cell is the same as its shadow, and is come by as often: the stamp is in the cell itself, so
// two copies of one cell would be told apart.
template <template <class> class Ref>
void World<Ref>::check() {
  ++stamp_;
  std::unordered_map<std::uint64_t, Shadow> reached;
  auto* todo = heap_.make_array<Ref<Cell>>(shadows_.size() + kRoots);
  std::size_t count = 0;
  const auto visit = [&](Cell* cell) {
    if (cell == nullptr) return;
    const bool is_known = reached.contains(cell->id);
    ASSERT_EQ(cell->stamp == stamp_, is_known) << "two copies of cell " << cell->id;
    if (is_known) return;
    check_cell(cell);
    if (testing::Test::HasFatalFailure()) return;
    cell->stamp = stamp_;
    reached.emplace(cell->id, shadows_.at(cell->id));
    (*todo)[count++] = cell;
  };
  for (std::size_t i = 0; i < kRoots; ++i) {
    ASSERT_EQ(id_of(roots_[i]), shadow_roots_[i]) << "root " << i;
    visit(roots_[i]);
  }
  while (count > 0 && !testing::Test::HasFatalFailure()) {
    Cell* const cell = (*todo)[--count];
    for (const Ref<Cell>& edge : cell->edges) visit(edge);
    if (cell->row != nullptr)
      for (const Ref<Cell>& element : *cell->row) visit(element);
  }
  shadows_ = std::move(reached);
}

template class World<gc::ref>;
template class World<gc::checked_ref>;
template class World<gc::carded_ref>;
template class World<gc::instructed_ref>;

}  // namespace pagetrap
