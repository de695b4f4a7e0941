// One whole snapshot while threads run, on both sides, and what the threads lost by it.
#pragma once

#include <functional>

#include "checkpoint/heaps.hpp"
#include "checkpoint/writers.hpp"

namespace pagetrap::bench {

struct Snapshot {
  double longest_gap_ns = 0;  // of any thread, at some time from the beginning to the end
  double gap_at_ns = 0;       // when that began, from the beginning
  double lost_ns = 0;         // of the work of all threads, until `settle_ms` after the end
  double during_ns = 0;       // from the beginning to the end
  double undisturbed = 0;     // accesses of all threads in as long, at that rate
};

struct SnapshotPlan {
  Pattern pattern;
  long before_ms = 0;  // before, and again at the end: the rate that should have been
  long settle_ms = 0;
  std::function<void()> at_begin{};
};

/// A checkpoint of everything, to a sink that forgets it.
Snapshot save_arena(ArenaHeap& heap, const SnapshotPlan& plan,
                    checkpoint::Statistics* statistics = nullptr);

/// fork(), and a child that copies everything and writes it to /dev/null. `at_end` is called when
/// it has, and still lives.
Snapshot save_by_fork(PlainHeap& heap, const SnapshotPlan& plan,
                      const std::function<void()>& at_end = {});

}  // namespace pagetrap::bench
