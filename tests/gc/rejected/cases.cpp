// Types that must not compile, one for each CASE; 0 is what must. Read by CMakeLists.txt beside it.
#include <optional>
#include <string>
#include <vector>

#include <pagetrap/gc/gc.hpp>

namespace gc = pagetrap::gc;

#if CASE == 0

struct Other : gc::leaf<Other> {
  double value = 0;
};
struct Node : gc::object<Node> {
  gc::ref<Node> left, right;
  int number = 0;
  std::array<gc::ref<Other>, 3> others;
  std::string name;
  std::optional<int> maybe;
  static constexpr auto members = gc::members(&Node::left, &Node::others, &Node::right);
};
class Closed : public gc::object<Closed> {
 public:
  explicit Closed(Closed* next) : next_(next) {}
  virtual ~Closed() = default;

 private:
  gc::ref<Closed> next_;

 public:
  static constexpr auto members = gc::unchecked_members(&Closed::next_);
};
void use(gc::Heap& heap) {
  heap.make<Node>(heap.make<Node>(), nullptr, 3);
  heap.make<Closed>(heap.make<Closed>(nullptr));
  heap.make_array<gc::ref<Other>>(2);
}

#elif CASE == 1  // a reference is missed

struct Node : gc::object<Node> {
  gc::ref<Node> left, right;
  static constexpr auto members = gc::members(&Node::left);
};
void use(gc::Heap& heap) { heap.make<Node>(); }

#elif CASE == 2  // ... because another is listed twice

struct Node : gc::object<Node> {
  gc::ref<Node> left, right;
  static constexpr auto members = gc::members(&Node::left, &Node::left);
};
void use(gc::Heap& heap) { heap.make<Node>(); }

#elif CASE == 3  // ... inside a field

struct Node : gc::object<Node> {
  gc::ref<Node> next;
  struct Pair {
    gc::ref<Node> a;
    int b;
  } pair;
  static constexpr auto members = gc::members(&Node::next);
};
void use(gc::Heap& heap) { heap.make<Node>(); }

#elif CASE == 4  // ... in a container

struct Node : gc::object<Node> {
  std::vector<gc::ref<Node>> next;
  static constexpr auto members = gc::members();
};
void use(gc::Heap& heap) { heap.make<Node>(); }

#elif CASE == 5  // a leaf with a reference

struct Text : gc::leaf<Text> {
  gc::ref<Text> next;
};
void use(gc::Heap& heap) { heap.make<Text>(); }

#elif CASE == 6  // no list at all

struct Node : gc::object<Node> {
  gc::ref<Node> next;
};
void use(gc::Heap& heap) { heap.make<Node>(); }

#elif CASE == 7  // fields that cannot be counted

class Node : public gc::object<Node> {
  gc::ref<Node> next_;

 public:
  static constexpr auto members = gc::members(&Node::next_);
};
void use(gc::Heap& heap) { heap.make<Node>(); }

#elif CASE == 8  // not a collected type

struct Node {
  gc::ref<Node> next;
};
void use(gc::Heap& heap) { heap.make<Node>(); }

#elif CASE == 9  // an array whose elements hide references

struct Node : gc::leaf<Node> {};
struct Pair {
  gc::ref<Node> node;
  int count;
};
void use(gc::Heap& heap) { heap.make_array<Pair>(3); }

#elif CASE == 10  // something that is no reference in the list

struct Node : gc::object<Node> {
  gc::ref<Node> next;
  int number;
  static constexpr auto members = gc::members(&Node::next, &Node::number);
};
void use(gc::Heap& heap) { heap.make<Node>(); }

#endif
