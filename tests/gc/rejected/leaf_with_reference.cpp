// A leaf with a reference.
#include <pagetrap/gc/gc.hpp>

namespace gc = pagetrap::gc;

struct Text : gc::leaf<Text> {
  gc::ref<Text> next;
};
void use(gc::Heap& heap) { heap.make<Text>(); }
