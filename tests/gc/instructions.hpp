// Functions whose machine code instructions_test.cpp reads.
#pragma once

#include <pagetrap/gc/gc.hpp>

namespace pagetrap {

struct Pointed : gc::object<Pointed> {
  gc::ref<Pointed> next;
  static constexpr auto members = gc::members(&Pointed::next);
};

extern "C" Pointed* gc_load(const Pointed* object);
extern "C" void gc_store(Pointed* object, Pointed* other);

}  // namespace pagetrap
