// One program over one way to make objects, in a process of its own.
#pragma once

#include "../../../../examples/durations.hpp"

namespace pagetrap::tool {

enum class GcSide { ours, malloc, boehm };
enum class GcProgram { gcbench, binary_trees };

struct SideFigures {
  bool there = true;  // false: the library is not installed
  bool right = false;
  double seconds = 0;
  example::Durations pauses;  // in which all threads stood still
};

/// Throws what went wrong.
SideFigures run_side(GcSide side, GcProgram program, bool quick);

}  // namespace pagetrap::tool
