#include "sides.hpp"

#include <dlfcn.h>

#include <chrono>
#include <stdexcept>
#include <string>

#include "../../../../bench/gc/programs.hpp"
#include "../apart.hpp"

namespace pagetrap::tool {
namespace {

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

template <class Allocator>
bool run_program(GcProgram program, bool quick, Allocator& allocator) {
  if (program == GcProgram::binary_trees) {
    const int size = quick ? 14 : 17;
    return bench::binary_trees(allocator, size) == bench::binary_trees_nodes(size);
  }
  const bench::GcBenchSize size =
      quick ? bench::GcBenchSize{16, 14, 250'000} : bench::GcBenchSize{};
  return bench::gcbench(allocator, size) == (std::size_t{2} << size.depth);
}

template <class Allocator>
void time_program(GcProgram program, bool quick, Allocator& allocator, SideFigures& figures) {
  const auto begin = Clock::now();
  figures.right = run_program(program, quick, allocator);
  figures.seconds = microseconds_since(begin) / 1e6;
}

void run_ours(GcProgram program, bool quick, SideFigures& figures) {
  gc::Options options;
  options.on_cycle_self = &figures;
  options.on_cycle = [](void* self, const gc::Cycle& cycle) {
    static_cast<SideFigures*>(self)->pauses.add((cycle.stop_us + cycle.pause_us) * 1000);
  };
  gc::Heap heap(options);
  const gc::Mutator here(heap);
  bench::CollectedAllocator allocator{heap};
  time_program(program, quick, allocator, figures);
}

// Its callback has no argument of ours.
SideFigures* g_boehm_figures = nullptr;
Clock::time_point g_boehm_stopped;

/// GC_EventType of gc.h; from before it stops the world until it goes on.
void on_boehm_event(int event) {
  constexpr int kBeforeStop = 6;
  constexpr int kAfterStart = 9;
  if (event == kBeforeStop) g_boehm_stopped = Clock::now();
  if (event == kAfterStart) g_boehm_figures->pauses.add(microseconds_since(g_boehm_stopped) * 1000);
}

template <class Function>
void find(void* library, const char* symbol, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, symbol));
  if (function == nullptr) throw std::runtime_error(std::string("libgc.so.1 has no ") + symbol);
}

void run_boehm(GcProgram program, bool quick, SideFigures& figures) {
  // Never closed: its hooks outlive us.
  void* const library = ::dlopen("libgc.so.1", RTLD_NOW | RTLD_GLOBAL);
  figures.there = library != nullptr;
  if (!figures.there) return;
  bench::BoehmAllocator allocator;
  void (*init)() = nullptr;
  void (*set_on_event)(void (*)(int)) = nullptr;
  find(library, "GC_init", init);
  find(library, "GC_malloc", allocator.allocate);
  find(library, "GC_malloc_atomic", allocator.allocate_atomic);
  find(library, "GC_malloc_uncollectable", allocator.allocate_uncollectable);
  find(library, "GC_set_on_collection_event", set_on_event);
  init();
  g_boehm_figures = &figures;
  set_on_event(on_boehm_event);
  time_program(program, quick, allocator, figures);
}

}  // namespace

SideFigures run_side(GcSide side, GcProgram program, bool quick) {
  return apart<SideFigures>("making trees ...", [&] {
    SideFigures figures;
    switch (side) {
      case GcSide::ours:
        run_ours(program, quick, figures);
        break;
      case GcSide::malloc: {
        bench::ManualAllocator allocator;
        time_program(program, quick, allocator, figures);
        break;
      }
      case GcSide::boehm:
        run_boehm(program, quick, figures);
    }
    return figures;
  });
}

}  // namespace pagetrap::tool
