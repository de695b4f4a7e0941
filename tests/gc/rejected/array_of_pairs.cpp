// An array whose elements hide references.
#include <pagetrap/gc/gc.hpp>

namespace gc = pagetrap::gc;

struct Node : gc::leaf<Node> {};
struct Pair {
  gc::ref<Node> node;
  int count;
};
void use(gc::Heap& heap) { heap.make_array<Pair>(3); }
