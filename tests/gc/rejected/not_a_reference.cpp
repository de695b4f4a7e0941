// Something in the list that is no reference.
#include <pagetrap/gc/gc.hpp>

namespace gc = pagetrap::gc;

struct Node : gc::object<Node> {
  gc::ref<Node> next;
  int number;
  static constexpr auto members = gc::members(&Node::next, &Node::number);
};
void use(gc::Heap& heap) { heap.make<Node>(); }
