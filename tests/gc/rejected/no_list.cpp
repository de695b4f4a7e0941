// No list at all.
#include <pagetrap/gc/gc.hpp>

namespace gc = pagetrap::gc;

struct Node : gc::object<Node> {
  gc::ref<Node> next;
};
void use(gc::Heap& heap) { heap.make<Node>(); }
