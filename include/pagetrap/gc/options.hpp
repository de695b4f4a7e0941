// What a heap can be told, and what it tells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <new>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// How pages are closed and opened.
enum class PageSupply : std::uint8_t {
  best,        // uffd_minor, or mprotect where that is not there
  uffd_minor,  // userfaultfd minor faults over a memory object that is mapped twice
  uffd_copy,   // the same over private memory, with copies: a fork()ed child has the heap as well
  mprotect,    // mprotect(2) and SIGSEGV over a memory object mapped twice: a flip takes time for
               // every page
  none,        // nothing is protected: a whole cycle runs inside the flip
};
PAGETRAP_API const char* name(PageSupply supply) noexcept;

/// What stands where pages do: for heaps whose references are the twins of twin.hpp, all of one
/// kind.
enum class Barriers : std::uint8_t {
  pages = 0,          // nothing: gc::ref
  checked_loads = 1,  // Baker's read barrier: nothing is closed, and nothing traps
  carded_stores = 2,  // a card table: pages are closed and trap, but need not tell of writes
  both = 3,           // plain memory
};
constexpr bool has(Barriers all, Barriers one) noexcept {
  return (static_cast<unsigned>(all) & static_cast<unsigned>(one)) != 0;
}

/// One cycle, as Options::on_cycle hears of it.
struct Cycle {
  std::uint32_t number = 0;
  bool full = false;
  double stop_us = 0;   // until all threads stood still
  double pause_us = 0;  // from then until they went on
  double lift_us = 0;   // of that, closing the old space
  double total_us = 0;  // from the flip to the end
  std::uint64_t traps = 0;
  std::uint64_t pins = 0;  // pages that stacks and registers point to
  std::uint64_t copied_bytes = 0;
  std::uint64_t scanned_pages = 0;
  std::uint64_t dirty_pages = 0;   // old pages written since the last cycle
  std::uint64_t opened_pages = 0;  // clean ones, in bulk
};

struct Options {
  /// The most that live objects may take, with what is waiting to be found dead. Beyond it make()
  /// collects, and then throws OutOfMemory. A cycle needs up to as much again while it copies.
  std::size_t limit_bytes = 4_GiB;
  /// How much is allocated between two cycles.
  std::size_t nursery_bytes = 32_MiB;
  /// Where more old memory is written between two cycles than is allocated, cycles come more
  /// rarely: the nursery grows up to this share of what is alive. 0: it stays as it is.
  double nursery_growth = 0.5;
  /// The old space is collected when it has grown by this factor over what was alive last time.
  double growth = 1.0;
  /// ... and by at least this much.
  std::size_t growth_bytes = 32_MiB;
  PageSupply supply = PageSupply::best;
  /// Threads that collect beside the program. 0: cycles are driven by allocations, in the threads
  /// that allocate.
  unsigned collectors = 1;
  /// Each that is not `pages` needs references of its own: SystemError with EINVAL when an object
  /// without them is found.
  Barriers barriers = Barriers::pages;
  /// Which signal stops threads. 0: the highest real-time signal that is free.
  int stop_signal = 0;
  /// Called at the end of each cycle, in the thread that ended it. May not use the heap.
  void (*on_cycle)(void* self, const Cycle& cycle) = nullptr;
  void* on_cycle_self = nullptr;
  /// For tests: every allocation may flip, or do a step of a cycle, as this seed decides.
  std::uint64_t stress_seed = 0;
};

struct Statistics {
  std::uint64_t cycles = 0;
  std::uint64_t full_cycles = 0;
  std::uint64_t traps = 0;
  std::uint64_t pins = 0;
  std::uint64_t copied_bytes = 0;
  std::uint64_t finalized = 0;
  double longest_pause_us = 0;
  double pauses_us = 0;
  std::size_t used_bytes = 0;  // pages that have objects, dead or alive
};

/// The limit is reached, and everything in the heap is alive.
class PAGETRAP_API OutOfMemory : public std::bad_alloc {
 public:
  OutOfMemory(std::size_t wanted, std::size_t used, std::size_t limit);
  [[nodiscard]] const char* what() const noexcept override { return words_.c_str(); }

 private:
  std::string words_;
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
