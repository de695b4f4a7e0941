// One program over one way to make objects, in a process of its own.
#pragma once

#include <cstdint>

namespace pagetrap::tool {

enum class GcSide { ours, malloc, boehm };
enum class GcProgram { gcbench, binary_trees };

struct SideFigures {
  bool there = true;  // false: the library is not installed
  bool right = false;
  double seconds = 0;
  double longest_pause_us = 0;  // that all threads stood still; 0 of malloc
  std::uint64_t collections = 0;
};

/// Throws what went wrong.
SideFigures run_side(GcSide side, GcProgram program, bool quick);

}  // namespace pagetrap::tool
