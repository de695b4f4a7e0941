// Nothing is allocated inside a fault: malloc and its kin, or else the operators new and delete,
// are counted while a handler runs, and around a whole fault. (That the fault path calls nothing
// else unsafe is proved by a compiler, lane signal-safety.)
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include "conformance/fixture.hpp"

namespace {

thread_local bool t_watched = false;
std::atomic<unsigned> g_allocations{0};

void note() {
  if (t_watched) g_allocations.fetch_add(1);
}

}  // namespace

#if defined(COUNT_MALLOC)
extern "C" {
// glibc's own names for what we stand in front of.
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* memory);

void* malloc(std::size_t size) {
  note();
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  note();
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  note();
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  note();
  return __libc_memalign(alignment, size);
}
void free(void* memory) {
  note();
  __libc_free(memory);
}
}
#else
// A sanitizer's malloc cannot be replaced, nor that of a static C library. Inlined, these would
// make the compiler warn of memory from operator new that is given to free().
[[gnu::noinline]] void* operator new(std::size_t size) {
  note();
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  note();
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  note();
  std::free(memory);
}
#endif

namespace pagetrap::conformance {
namespace {

class Allocation : public Conformance {};

void allocate() {
  ::operator delete(::operator new(100));  // not a new-expression, which could be left out
}

// Watches from the first instruction of the handler to its last, and all that it calls.
struct Watched {
  FaultLog log;
  std::atomic<unsigned> faults{0};
  bool allocates = false;
  static Verdict on_fault(void* self, const Fault& fault) noexcept {
    auto& me = *static_cast<Watched*>(self);
    const bool outer = t_watched;
    t_watched = true;
    me.faults.fetch_add(1);
    if (me.allocates) allocate();
    const Verdict verdict = me.log.handle(fault);
    t_watched = outer;
    return verdict;
  }
};

TEST_P(Allocation, TheCounterCounts) {
  g_allocations.store(0);
  t_watched = true;
  allocate();
  t_watched = false;
  EXPECT_EQ(g_allocations.load(), 2U);
#if defined(COUNT_MALLOC)
  g_allocations.store(0);
  t_watched = true;
  void* volatile memory = std::malloc(100);
  std::free(memory);
  t_watched = false;
  EXPECT_EQ(g_allocations.load(), 2U);
#endif
}

TEST_P(Allocation, OneInsideAHandlerIsCounted) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer reports what this handler does on purpose";
#endif
  Watched watched;
  watched.allocates = true;
  Region region = make_with(1, options(1, FaultKind::write_protected));
  ASSERT_TRUE(region.valid());
  region.on_fault(Watched::on_fault, &watched).value();
  ASSERT_TRUE(region.protect(region.range(), Access::read));
  const Way way = ways().back();
  g_allocations.store(0);
  store(region, page_at(region, 0), 1, way);
  region.quiesce();
  EXPECT_EQ(watched.faults.load(), 1U);
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

// Two faults for each page, one after the other: it is missing, then filled for reading only.
TEST_P(Allocation, NoneWhereAFillIsWriteProtected) {
  constexpr std::size_t kPages = 256;
  const FaultSet faults = FaultKind::missing | FaultKind::write_protected;
  if (!can_raise(faults)) GTEST_SKIP() << "cannot raise missing faults";
  for (const Way way : ways()) {
    Watched watched;
    watched.log.how = Supply::zero;
    watched.log.access = Access::read;
    Region region = make_with(kPages, options(kPages, faults));
    ASSERT_TRUE(region.valid());
    region.on_fault(Watched::on_fault, &watched).value();
    g_allocations.store(0);
    t_watched = can().faulting_thread;
    for (std::size_t i = 0; i < kPages; ++i) store(region, page_at(region, i), i + 1, way);
    t_watched = false;
    region.quiesce();
    EXPECT_EQ(g_allocations.load(), 0U) << way;
    EXPECT_EQ(watched.faults.load(), 2 * kPages) << way;
    EXPECT_EQ(watched.log.failures.load(), 0) << "errno " << watched.log.last_error.load();
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(load(region, page_at(region, i), way), i + 1) << way;
  }
}

INSTANTIATE_TEST_SUITE_P(Vm, Allocation, testing::ValuesIn(all_combinations()), test_name);

}  // namespace
}  // namespace pagetrap::conformance
