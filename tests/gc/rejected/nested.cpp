// A reference inside a field.
#include <pagetrap/gc/gc.hpp>

namespace gc = pagetrap::gc;

struct Node : gc::object<Node> {
  gc::ref<Node> next;
  struct Pair {
    gc::ref<Node> a;
    int b;
  } pair;
  static constexpr auto members = gc::members(&Node::next);
};
void use(gc::Heap& heap) { heap.make<Node>(); }
