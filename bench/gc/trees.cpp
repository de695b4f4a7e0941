// gc.btree.*, gc.gcbench.*, gc.threads.*, gc.memory: programs that make trees and forget them.
#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gc/programs.hpp"
#include "gc/questions.hpp"
#include "gc/sides.hpp"
#include "harness/clock.hpp"
#include "harness/pairs.hpp"

namespace pagetrap::bench {
namespace {

int tree_size(const Effort& effort) { return effort.quick ? 15 : 18; }

GcBenchSize gcbench_size(const Effort& effort) {
  return effort.quick ? GcBenchSize{17, 15, 500'000} : GcBenchSize{};
}

struct BinaryTrees {
  int size;
  bool operator()(auto& allocator) const {
    return binary_trees(allocator, size) == binary_trees_nodes(size);
  }
};

struct GcBench {
  GcBenchSize size;
  bool operator()(auto& allocator) const {
    return gcbench(allocator, size) == (std::size_t{2} << size.depth);
  }
};

template <class Program>
void compare(const Effort& effort, Report& report, Program program, Maker rival,
             double (*clock)() = now_ns) {
  Peer ours(report, [&] { return whole_programs(Maker::ours, report, program, clock); });
  Peer theirs(report, [&] { return whole_programs(rival, report, program, clock); });
  interleave(
      with_fewer_pairs(effort, 3), report, [&] { return ours.measure() / 1e6; },
      [&] { return theirs.measure() / 1e6; });
}

template <Maker kRival, double (*kClock)() = now_ns>
void measure_btree(const Effort& effort, Report& report) {
  report.parameter("size", tree_size(effort));
  compare(effort, report, BinaryTrees{tree_size(effort)}, kRival, kClock);
}

template <Maker kRival>
void measure_gcbench(const Effort& effort, Report& report) {
  report.parameter("depth", gcbench_size(effort).depth);
  compare(effort, report, GcBench{gcbench_size(effort)}, kRival);
}

/// Looks at the process's memory a thousand times a second.
class Sampler {
 public:
  Sampler() : thread_([this] { sample(); }) {}
  ~Sampler() {
    if (thread_.joinable()) stop();
  }
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;
  double stop() {
    ending_ = true;
    thread_.join();
    return most_;
  }

 private:
  void sample() {
    while (!ending_) {
      most_ = std::max(most_, memory_bytes());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  std::atomic<bool> ending_{false};
  double most_ = 0;
  std::thread thread_;
};

// What the process had before counts on neither side.
void measure_memory(const Effort& effort, Report& report) {
  const auto side = [&](Maker maker) {
    return [&report, maker, size = gcbench_size(effort)]() -> Peer::Batch {
      return [&report, maker, size] {
        const double before = memory_bytes();
        Sampler sampler;
        const bool right =
            with(maker, report, [&](auto& allocator) { return GcBench{size}(allocator); });
        report.check(right, "something in the heap has been lost");
        return (sampler.stop() - before) / 1048576;
      };
    };
  };
  Peer ours(report, side(Maker::ours));
  // It gives nothing back: the first run is the only one.
  interleave(
      with_fewer_pairs(effort, 1), report, [&] { return ours.measure(); },
      [&] { return Peer(report, side(Maker::bdwgc)).measure(); });
}

// The trees of binary-trees, a part of them in each thread.
template <unsigned kThreads>
struct ThreadedTrees {
  int size;
  bool operator()(auto& allocator) const {
    using Allocator = std::remove_reference_t<decltype(allocator)>;
    std::atomic<bool> right{true};
    const auto work = [&] {
      const int own = size - 2;
      if (binary_trees(allocator, own) != binary_trees_nodes(own)) right = false;
    };
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < kThreads; ++i)
      threads.emplace_back([&] {
        if constexpr (std::is_same_v<Allocator, CollectedAllocator>) {
          gc::Mutator here(allocator.heap);
          work();
        } else {
          work();
        }
      });
    const auto join = [&] {
      for (std::thread& thread : threads) thread.join();
    };
    if constexpr (std::is_same_v<Allocator, CollectedAllocator>) {
      allocator.here->blocking(join);
    } else {
      join();
    }
    return right.load();
  }
};

template <unsigned kThreads>
void measure_threads(const Effort& effort, Report& report) {
  report.parameter("threads", kThreads);
  const ThreadedTrees<kThreads> program{tree_size(effort)};
  const auto side = [&](Maker maker) {
    return [&report, maker, program]() -> Peer::Batch {
      return [&report, maker, program] {
        const double begin = now_ns();
        bool right = false;
        if (maker == Maker::ours) {
          gc::Heap heap(heap_options());
          gc::Mutator here(heap);
          CollectedAllocator allocator{heap, &here};
          right = program(allocator);
        } else {
          ManualAllocator allocator;
          right = program(allocator);
        }
        report.check(right, "something in the heap has been lost");
        return (now_ns() - begin) / 1e6;
      };
    };
  };
  Peer ours(report, side(Maker::ours));
  Peer theirs(report, side(Maker::malloc));
  interleave(
      with_fewer_pairs(effort, 3), report, [&] { return ours.measure(); },
      [&] { return theirs.measure(); });
}

void add(Questions& questions, std::string id, std::string asks, Maker rival, double target,
         void (*how)(const Effort&, Report&), std::string unit = "ms") {
  questions.push_back({.id = std::move(id),
                       .asks = std::move(asks),
                       .ours = name(Maker::ours),
                       .rival = name(rival),
                       .unit = std::move(unit),
                       .target = target,
                       .measure = how,
                       // The collector's thread must have its turn.
                       .scheduling = Scheduling::fair_group});
}

}  // namespace

void add_trees(Questions& questions) {
  const std::string btree = "binary-trees, the whole program";
  const std::string gcbench = "GCBench, the whole program";
  add(questions, "gc.btree.malloc", btree, Maker::malloc, 0.55, measure_btree<Maker::malloc>);
  add(questions, "gc.btree.bdwgc", btree, Maker::bdwgc, 0.4, measure_btree<Maker::bdwgc>);
  add(questions, "gc.btree.cpu", btree + ", CPU time of all threads", Maker::malloc, 1.0,
      measure_btree<Maker::malloc, cpu_ns>);
  add(questions, "gc.gcbench.malloc", gcbench, Maker::malloc, 0.4, measure_gcbench<Maker::malloc>);
  add(questions, "gc.gcbench.bdwgc", gcbench, Maker::bdwgc, 0.4, measure_gcbench<Maker::bdwgc>);
  add(questions, "gc.gcbench.mimalloc", gcbench, Maker::mimalloc, 1.0,
      measure_gcbench<Maker::mimalloc>);
  add(questions, "gc.memory", "GCBench, the most memory at a time", Maker::bdwgc, 1.5,
      measure_memory, "MiB");
  const std::string threads = "binary-trees in each of so many threads";
  add(questions, "gc.threads.2", threads, Maker::malloc, 0.8, measure_threads<2>);
  add(questions, "gc.threads.4", threads, Maker::malloc, 0.8, measure_threads<4>);
  add(questions, "gc.threads.8", threads, Maker::malloc, 0.8, measure_threads<8>);
}

}  // namespace pagetrap::bench
