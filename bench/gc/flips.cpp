// gc.flip_*: how long threads stand still, by how much is alive.
#include <sys/mman.h>

#include <cstring>
#include <memory>
#include <utility>

#include "gc/questions.hpp"
#include "gc/sides.hpp"
#include "harness/clock.hpp"
#include "harness/mapping.hpp"
#include "harness/pairs.hpp"

namespace pagetrap::bench {
namespace {

/// Objects of half a page, all references, in a chain: an old space of so many bytes.
struct Block : gc::object<Block> {
  gc::ref<Block> next;
  std::array<std::uint64_t, 252> words{};
  static constexpr auto members = gc::members(&Block::next);
};

class LiveHeap {
 public:
  explicit LiveHeap(std::size_t bytes) : heap_(options(bytes)), here_(heap_), chain_(heap_) {
    for (std::size_t i = 0; i < bytes / 2048; ++i) {
      Block* const block = heap_.make<Block>();
      block->next = chain_;
      chain_ = block;
    }
    heap_.collect(false);
    heap_.collect(false);
  }

  /// How long the thread stood still for a flip, in microseconds.
  double flip() {
    for (int i = 0; i < 1000; ++i) heap_.make<Block>();
    heap_.collect(false);
    return pause_us_;
  }
  [[nodiscard]] std::size_t used_bytes() const { return heap_.statistics().used_bytes; }

 private:
  gc::Options options(std::size_t bytes) {
    gc::Options options = heap_options();
    options.limit_bytes = 2 * bytes + 512_MiB;
    options.growth = 1e9;  // minor cycles only
    options.on_cycle_self = this;
    options.on_cycle = [](void* self, const gc::Cycle& cycle) {
      static_cast<LiveHeap*>(self)->pause_us_ = cycle.pause_us;
    };
    return options;
  }
  double pause_us_ = 0;
  gc::Heap heap_;
  gc::Mutator here_;
  gc::root<Block> chain_;
};

Peer::Batch flips(std::size_t bytes, Report& report) {
  auto heap = std::make_shared<LiveHeap>(bytes);
  report.check(heap->used_bytes() >= bytes, "not all is alive");
  return [heap] { return heap->flip(); };
}

// What a collector without the lift does: takes all rights away, page by page.
Peer::Batch protections(std::size_t bytes) {
  auto memory = std::make_shared<Mapping>(bytes);
  std::memset(memory->data(), 1, bytes);
  return [memory, bytes] {
    const double begin = now_ns();
    ::mprotect(memory->data(), bytes, PROT_NONE);
    const double elapsed = now_ns() - begin;
    ::mprotect(memory->data(), bytes, PROT_READ | PROT_WRITE);
    return elapsed / 1000;
  };
}

void measure_1g(const Effort& effort, Report& report) {
  const std::size_t bytes = 1_GiB;
  Peer ours(report, [&] { return flips(bytes, report); });
  Peer theirs(report, [&] { return protections(bytes); });
  interleave(
      with_fewer_pairs(effort, 5), report, [&] { return ours.measure(); },
      [&] { return theirs.measure(); });
}

void measure_growth(const Effort& effort, Report& report) {
  const std::size_t large = effort.quick ? 1_GiB : 4_GiB;
  report.parameter("large_bytes", static_cast<double>(large));
  Peer ours(report, [&] { return flips(large, report); });
  Peer small(report, [&] { return flips(64_MiB, report); });
  interleave(
      with_fewer_pairs(effort, 5), report, [&] { return ours.measure(); },
      [&] { return small.measure(); });
}

}  // namespace

void add_flips(Questions& questions) {
  questions.push_back({.id = "gc.flip_1g",
                       .asks = "threads stand still for a flip, 1 GiB alive",
                       .ours = "gc::Heap",
                       .rival = "mprotect of 1 GiB",
                       .unit = "us",
                       .target = 0.02,
                       .measure = measure_1g,
                       .scheduling = Scheduling::fair_group});
  questions.push_back({.id = "gc.flip_growth",
                       .asks = "the same, 4 GiB alive",
                       .ours = "gc::Heap, 4 GiB",
                       .rival = "gc::Heap, 64 MiB",
                       .unit = "us",
                       .target = 2,
                       .measure = measure_growth,
                       .scheduling = Scheduling::fair_group});
}

}  // namespace pagetrap::bench
