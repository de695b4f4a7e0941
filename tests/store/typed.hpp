// Typed objects of every kind that a store knows, and an address that is in use.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include <pagetrap/store/containers.hpp>

#include "store/campaign/workload.hpp"
#include "store/store_state.hpp"
#include "store/support.hpp"

namespace pagetrap::store::typed {

template <class T>
using Vector = std::vector<T, Allocator<T>>;
using Text = std::basic_string<char, std::char_traits<char>, Allocator<char>>;
template <class K, class V>
using Map = std::map<K, V, std::less<>, Allocator<std::pair<const K, V>>>;
template <class K, class V, class H = std::hash<K>>
using Table = std::unordered_map<K, V, H, std::equal_to<>, Allocator<std::pair<const K, V>>>;
template <class T>
using List = std::list<T, Allocator<T>>;

struct TextHash {
  std::size_t operator()(const Text& text) const noexcept {
    return std::hash<std::string_view>{}(text);
  }
};

/// A class of the program's own, with a raw pointer.
struct Person {
  Person* next = nullptr;
  std::uint32_t age = 0;
  std::array<const Person*, 2> parents{};
};

/// All kinds at once. On the heap, with an allocator made of nothing, it is its own model.
struct World {
  using allocator_type = Allocator<std::byte>;
  explicit World(allocator_type a = {})
      : map(a),
        table(a),
        texts(a),
        list(a),
        forward(a),
        deque(a),
        vector(a),
        bits(a),
        set(a),
        text(a),
        nested(a),
        several(a),
        people(a) {}
  std::uint64_t step = 0;
  Map<int, Text> map;
  Table<std::uint64_t, Text> table;
  Table<Text, int, TextHash> texts;
  List<Text> list;
  std::forward_list<int, Allocator<int>> forward;
  std::deque<std::uint64_t, Allocator<std::uint64_t>> deque;
  Vector<Text> vector;
  Vector<bool> bits;
  std::set<int, std::less<>, Allocator<int>> set;
  Text text;
  Map<int, Vector<List<int>>> nested;
  std::multimap<int, Text, std::greater<int>, Allocator<std::pair<const int, Text>>> several;
  List<Person> people;
  Person* newest = nullptr;
  std::optional<std::pair<const char*, int>> letter;

  bool operator==(const World& other) const;
};

/// What of the steps 1, 2, ... of `seed` changes.
void take_step(World& world, std::uint64_t seed, std::uint64_t number);

/// Has the home of a file mapped, as another store would.
class Occupied {
 public:
  explicit Occupied(std::uint64_t base);
  ~Occupied() { ::munmap(address_, kPageBytes); }
  Occupied(const Occupied&) = delete;
  Occupied& operator=(const Occupied&) = delete;

 private:
  void* address_;
};
/// The address that a file records.
std::uint64_t home_of(const std::string& path);

}  // namespace pagetrap::store::typed

template <>
struct pagetrap::store::Pointers<pagetrap::store::typed::Person>
    : pagetrap::store::Members<&pagetrap::store::typed::Person::next,
                               &pagetrap::store::typed::Person::age,
                               &pagetrap::store::typed::Person::parents> {};
template <>
struct pagetrap::store::Pointers<pagetrap::store::typed::World>
    : pagetrap::store::Members<
          &pagetrap::store::typed::World::step, &pagetrap::store::typed::World::map,
          &pagetrap::store::typed::World::table, &pagetrap::store::typed::World::texts,
          &pagetrap::store::typed::World::list, &pagetrap::store::typed::World::forward,
          &pagetrap::store::typed::World::deque, &pagetrap::store::typed::World::vector,
          &pagetrap::store::typed::World::bits, &pagetrap::store::typed::World::set,
          &pagetrap::store::typed::World::text, &pagetrap::store::typed::World::nested,
          &pagetrap::store::typed::World::several, &pagetrap::store::typed::World::people,
          &pagetrap::store::typed::World::newest, &pagetrap::store::typed::World::letter> {};
