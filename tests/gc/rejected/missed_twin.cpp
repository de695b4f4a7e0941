// The same of a twin.
#include <pagetrap/gc/gc.hpp>

namespace gc = pagetrap::gc;

struct Node : gc::object<Node> {
  gc::carded_ref<Node> left, right;
  static constexpr auto members = gc::members(&Node::left);
};
void use(gc::Heap& heap) { heap.make<Node>(); }
