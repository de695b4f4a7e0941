#include "gc/sides.hpp"

#include <dlfcn.h>
#include <time.h>

#include <fstream>
#include <string>

#include "harness/report.hpp"

namespace pagetrap::bench {
namespace {

void* open_library(Report& report, const char* file, const char* package) {
  // Never closed: its threads and hooks outlive us.
  void* const library = ::dlopen(file, RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr)
    report.skip(std::string(file) + " is not installed (package " + package + ")");
  return library;
}

template <class Function>
void find(Report& report, void* library, const char* symbol, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, symbol));
  report.check(function != nullptr, symbol);
}

}  // namespace

const char* name(Maker maker) {
  switch (maker) {
    case Maker::ours:
      return "gc::Heap";
    case Maker::malloc:
      return "malloc and free";
    case Maker::mimalloc:
      return "mimalloc";
    case Maker::bdwgc:
      break;
  }
  return "bdwgc";
}

double cpu_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// Proportional to how often each page is mapped: VmRSS counts a page twice that has two views.
double memory_bytes() {
  std::ifstream rollup("/proc/self/smaps_rollup");
  std::string word;
  while (rollup >> word) {
    double kilobytes = 0;
    if (word == "Pss:" && rollup >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

gc::Options heap_options() {
  gc::Options options;
  options.limit_bytes = 8_GiB;
  return options;
}

BoehmAllocator open_bdwgc(Report& report) {
  static const BoehmAllocator opened = [&] {
    void* const library = open_library(report, "libgc.so.1", "libgc1");
    BoehmAllocator allocator;
    void (*init)() = nullptr;
    find(report, library, "GC_init", init);
    find(report, library, "GC_malloc", allocator.allocate);
    find(report, library, "GC_malloc_atomic", allocator.allocate_atomic);
    find(report, library, "GC_malloc_uncollectable", allocator.allocate_uncollectable);
    init();
    return allocator;
  }();
  return opened;
}

ManualAllocator open_mimalloc(Report& report) {
  static const ManualAllocator opened = [&] {
    void* const library = open_library(report, "libmimalloc.so.2", "libmimalloc2.0");
    ManualAllocator allocator;
    find(report, library, "mi_malloc", allocator.allocate);
    find(report, library, "mi_free", allocator.release);
    return allocator;
  }();
  return opened;
}

}  // namespace pagetrap::bench
