// A program over each way to make objects, each in a process of its own.
#pragma once

#include <cstddef>
#include <functional>

#include "gc/allocators.hpp"
#include "harness/peer.hpp"

namespace pagetrap::bench {

enum class Maker { ours, malloc, mimalloc, bdwgc };
const char* name(Maker maker);

/// How much of the process's CPU time, all threads together, has been used.
double cpu_ns();
/// The most memory that the process has had at a time: its own pages once, however often mapped.
double memory_bytes();

/// The options of the rows: those that a program gets that says nothing, but for the limit.
gc::Options heap_options();

/// Opened by name; ends the measurement with a reason if the library is missing.
BoehmAllocator open_bdwgc(Report& report);
ManualAllocator open_mimalloc(Report& report);

/// Calls `use(allocator)` with the maker's. What it returns.
template <class Use>
auto with(Maker maker, Report& report, Use use) {
  if (maker == Maker::ours) {
    gc::Heap heap(heap_options());
    gc::Mutator here(heap);
    CollectedAllocator allocator{heap};
    return use(allocator);
  }
  if (maker == Maker::bdwgc) {
    BoehmAllocator allocator = open_bdwgc(report);
    return use(allocator);
  }
  ManualAllocator allocator;
  if (maker == Maker::mimalloc) allocator = open_mimalloc(report);
  return use(allocator);
}

/// A peer that runs `program(allocator)`, a whole program at a time; it returns whether all was
/// right. `clock` says what it costs.
template <class Program>
Peer::Batch whole_programs(Maker maker, Report& report, Program program, double (*clock)()) {
  return [maker, &report, program, clock] {
    const double begin = clock();
    const bool right = with(maker, report, [&](auto& allocator) { return program(allocator); });
    const double cost = clock() - begin;
    report.check(right, "something in the heap has been lost");
    return cost;
  };
}

}  // namespace pagetrap::bench
