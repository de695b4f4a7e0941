// Nothing is allocated inside a fault: malloc and its kin are counted while a handler runs, and
// around a whole fault.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "conformance/fixture.hpp"

namespace {

thread_local bool t_watched = false;
std::atomic<unsigned> g_allocations{0};

}  // namespace

extern "C" {
// glibc's own names for what we stand in front of.
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* memory);

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void* malloc(std::size_t size) {
  if (t_watched) g_allocations.fetch_add(1);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  if (t_watched) g_allocations.fetch_add(1);
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  if (t_watched) g_allocations.fetch_add(1);
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  if (t_watched) g_allocations.fetch_add(1);
  return __libc_memalign(alignment, size);
}
void free(void* memory) {
  if (t_watched) g_allocations.fetch_add(1);
  __libc_free(memory);
}
#endif
}

namespace pagetrap::conformance {
namespace {

class Allocation : public Conformance {
 protected:
  std::string obstacle() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return "a sanitizer's allocator cannot be replaced";
#else
    return {};
#endif
  }
};

// Watches from the first instruction of the handler to its last, and all that it calls.
struct Watched {
  FaultLog log;
  std::atomic<unsigned> faults{0};
  static Verdict on_fault(void* self, const Fault& fault) noexcept {
    auto& me = *static_cast<Watched*>(self);
    const bool outer = t_watched;
    t_watched = true;
    me.faults.fetch_add(1);
    const Verdict verdict = me.log.handle(fault);
    t_watched = outer;
    return verdict;
  }
};

TEST_P(Allocation, TheCounterCounts) {
  g_allocations.store(0);
  t_watched = true;
  void* volatile memory = std::malloc(100);
  std::free(memory);
  t_watched = false;
  EXPECT_EQ(g_allocations.load(), 2U);
}

TEST_P(Allocation, NoneInsideAFault) {
  constexpr std::size_t kPages = 64;
  FaultSet faults = FaultKind::write_protected;
  for (const FaultKind kind : {FaultKind::missing, FaultKind::minor, FaultKind::no_access})
    if (can_raise(faults | kind)) faults = faults | kind;
  for (const DirtyForm dirty : {DirtyForm::none, DirtyForm::traps}) {
    if (dirty == DirtyForm::traps && !can().per_page) continue;
    RegionOptions asked = options(kPages, faults);
    asked.dirty = dirty;
    const Pattern source(kPages);
    Watched watched;
    watched.log.source = source.data();
    Region region = make_with(kPages, asked);
    ASSERT_TRUE(region.valid());
    region.on_fault(Watched::on_fault, &watched).value();
    const Way way = ways().back();  // which allocates
    g_allocations.store(0);
    // A thread that never faulted before: first uses of thread-locals are inside the fault.
    std::thread([&] {
      // With delivery in the faulting thread this covers the signal handler around our handler too.
      t_watched = can().faulting_thread;
      for (std::size_t i = 0; i < kPages; ++i) {
        load(region, page_at(region, i), way);
        store(region, page_at(region, i), i, way);
      }
      if (can().per_page) {
        static_cast<void>(region.protect(pages_at(region, 3, 40), Access::read));
        for (std::size_t i = 0; i < kPages; ++i) store(region, page_at(region, i), i, way);
        static_cast<void>(region.discard(pages_at(region, 3, 9)));
        for (std::size_t i = 0; i < kPages; ++i) load(region, page_at(region, i), way);
        static_cast<void>(region.guard(pages_at(region, 1)));
        static_cast<void>(region.unguard(pages_at(region, 1)));
      }
      t_watched = false;
    }).join();
    region.quiesce();
    EXPECT_EQ(g_allocations.load(), 0U);
    if (can().per_page && dirty == DirtyForm::none) {
      EXPECT_GT(watched.faults.load(), 0U);
    }
    EXPECT_EQ(watched.log.failures.load(), 0) << "errno " << watched.log.last_error.load();
  }
}

INSTANTIATE_TEST_SUITE_P(Vm, Allocation, testing::ValuesIn(all_combinations()), test_name);

}  // namespace
}  // namespace pagetrap::conformance
