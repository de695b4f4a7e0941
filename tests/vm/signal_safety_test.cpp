// The fault path allocates nothing: malloc and free of this program count calls made while a fault
// handler runs. (That it calls nothing else unsafe is proved by a compiler, lane signal-safety.)
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include <pagetrap/vm/vm.hpp>

#include "vm/dispatch.hpp"

namespace {
std::atomic<int> g_allocations_in_handlers{0};
void note() {
  if (pagetrap::handler_depth() != 0) ++g_allocations_in_handlers;
}
}  // namespace

// Operators only: replacing malloc itself does not go with sanitizers.
void* operator new(std::size_t size) {
  note();
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  note();
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  note();
  std::free(memory);
}

namespace pagetrap {
namespace {

Verdict open_page(void*, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  if (fault.kind == FaultKind::missing)
    return fault.region->supply(fault.page, nullptr, Supply::zero, Access::read)
               ? Verdict::resolved
               : Verdict::not_mine;
  return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
}

TEST(SignalSafety, FaultsAllocateNothing) {
  for (const BackendId id : {BackendId::uffd_inline, BackendId::mprotect, BackendId::null}) {
    auto region =
        Region::create(256 * page_size(),
                       {.faults = FaultKind::missing | FaultKind::write_protected, .backend = id});
    if (!region) continue;
    ASSERT_TRUE(region->on_fault(open_page, nullptr));
    for (std::size_t page = 0; page < 256; ++page)
      ASSERT_TRUE(region->touch(region->data() + bytes(Pages{page}), true));
  }
  EXPECT_EQ(g_allocations_in_handlers.load(), 0);
}

Verdict allocate(void*, const Fault& fault) noexcept {
  ::operator delete(::operator new(1));  // not a new-expression, which could be left out
  return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
}

// The count counts: in thread delivery a handler may allocate, in the faulting thread it shows.
TEST(SignalSafety, TheCounterSeesAnAllocation) {
  auto region = Region::create(page_size(), {.backend = BackendId::mprotect}).value();
  // The conversion drops the proof that this handler does not have.
  ASSERT_TRUE(region.on_fault(reinterpret_cast<Handler>(&allocate), nullptr));
  ASSERT_TRUE(region.protect(region.range(), Access::read));
  const int before = g_allocations_in_handlers.load();
  ASSERT_TRUE(region.touch(region.data(), true));
  EXPECT_EQ(g_allocations_in_handlers.load(), before + 1 + 1);
}

}  // namespace
}  // namespace pagetrap
