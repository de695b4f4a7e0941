// Fields that cannot be counted.
#include <pagetrap/gc/gc.hpp>

namespace gc = pagetrap::gc;

class Node : public gc::object<Node> {
  gc::ref<Node> next_;

 public:
  static constexpr auto members = gc::members(&Node::next_);
};
void use(gc::Heap& heap) { heap.make<Node>(); }
