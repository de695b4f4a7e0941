#include "checkpoint/snapshots.hpp"

#include "rivals/fork_save.hpp"

namespace pagetrap::bench {

namespace {

template <class Save>
Snapshot watch(std::byte* heap, std::size_t size_bytes, const SnapshotPlan& plan, Save&& save) {
  touch_all(heap, size_bytes);
  Writers writers(heap, size_bytes, plan.pattern);
  sleep_ms(50 + plan.before_ms);
  if (plan.at_begin) plan.at_begin();
  const double begin = now_ns();
  save();
  const double end = now_ns();
  sleep_ms(1 + plan.settle_ms);
  const double settled = now_ns();
  sleep_ms(plan.before_ms);
  const double after = now_ns();
  writers.stop();
  Snapshot seen;
  seen.during_ns = end - begin;
  const Writers::Gap longest = writers.longest_gap(begin, end);
  seen.longest_gap_ns = longest.length_ns();
  seen.gap_at_ns = longest.begin_ns - begin;
  if (plan.before_ms > 0) {
    const double before = static_cast<double>(plan.before_ms) * 1e6;
    const double rate =
        (writers.accesses(begin - before, begin) + writers.accesses(settled, after)) /
        (before + after - settled);
    seen.undisturbed = rate * seen.during_ns;
    seen.lost_ns = settled - begin - writers.accesses(begin, settled) / rate;
  }
  return seen;
}

}  // namespace

Snapshot save_arena(ArenaHeap& heap, const SnapshotPlan& plan, checkpoint::Statistics* statistics) {
  return watch(heap.data(), heap.size_bytes(), plan, [&] {
    NullSink sink;
    const checkpoint::Statistics made = heap.save(sink);
    if (statistics != nullptr) *statistics = made;
  });
}

Snapshot save_by_fork(PlainHeap& heap, const SnapshotPlan& plan,
                      const std::function<void()>& at_end) {
  return watch(heap.data(), heap.size_bytes(), plan, [&] {
    rivals::ForkSave snapshot(heap.data(), heap.size_bytes(), rivals::ForkedChild::saves_all);
    snapshot.wait();
    if (at_end) at_end();
  });
}

}  // namespace pagetrap::bench
