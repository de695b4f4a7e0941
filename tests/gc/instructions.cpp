#include "gc/instructions.hpp"

namespace pagetrap {

Pointed* gc_load(const Pointed* object) { return object->next; }

void gc_store(Pointed* object, Pointed* other) { object->next = other; }

}  // namespace pagetrap
