// References in a container.
#include <vector>

#include <pagetrap/gc/gc.hpp>

namespace gc = pagetrap::gc;

struct Node : gc::object<Node> {
  std::vector<gc::ref<Node>> next;
  static constexpr auto members = gc::members();
};
void use(gc::Heap& heap) { heap.make<Node>(); }
