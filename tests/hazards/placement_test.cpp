// Regions in unusual places: at the ends of the address space, and in huge pages (hazard 22).
#include <sys/mman.h>

#include "hazards/support.hpp"

namespace pagetrap::hazards {
namespace {

void one_fault_at(Region region, const char* where) {
  Opener opener;
  must(region.on_fault(Opener::open, &opener), "on_fault");
  must(region.protect(region.range(), Access::read), "protect");
  store(region.range().end() - 1, 1);
  require(opener.faults == 1, where);
  store(region.data(), 1);
  require(opener.faults == 2, where);
}

TEST(Placement, LowAndHighAddresses) {
  if (under_sanitizer()) GTEST_SKIP() << "its shadow is there";
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                // The last page below 2^47 is the kernel's own guard. Steps down from the top, as
                // stack, vdso and libraries may be there.
                int high = 0;
                int low = 0;
                for (std::uintptr_t top = (std::uintptr_t{1} << 47) - (std::uintptr_t{1} << 16);
                     top > 0x7f0000000000 && high < 3; top -= std::uintptr_t{1} << 30) {
                  RegionOptions options = options_for(id, FaultKind::write_protected);
                  options.address = reinterpret_cast<void*>(top);
                  auto region = Region::create(4 * page_size(), options);
                  if (!region) continue;
                  require(region->data() == options.address, "exactly there");
                  one_fault_at(std::move(*region), "high");
                  ++high;
                }
                for (const std::uintptr_t address : {0x10000UL, 0x20000000UL, 0x7fff0000UL,
                                                     0x80000000UL, 0xffff0000UL, 0x100000000UL}) {
                  RegionOptions options = options_for(id, FaultKind::write_protected);
                  options.address = reinterpret_cast<void*>(address);
                  auto region = Region::create(4 * page_size(), options);
                  if (!region) continue;
                  one_fault_at(std::move(*region), "low");
                  ++low;
                }
                require(high > 0 && low > 0, "there was room");
              }));
  }
}

TEST(Placement, OnePageInsideAHugePage) {
  constexpr std::size_t kHuge = 2_MiB;
  const std::size_t per_huge = kHuge / page_size();
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id, per_huge] {
                RegionOptions options = options_for(id, FaultKind::write_protected);
                options.huge_pages = HugePages::always;
                options.alignment = kHuge;
                Region region = must(Region::create(4 * kHuge, options), "create");
                Opener opener;
                must(region.on_fault(Opener::open, &opener), "on_fault");
                const std::size_t pages = 4 * per_huge;
                for (std::size_t i = 0; i < pages; ++i)
                  store(page_at(region, i).base, static_cast<unsigned>(i * 7));
                must(region.protect(page_at(region, per_huge + 5), Access::read), "protect one");
                for (std::size_t i = 0; i < pages; ++i) store(page_at(region, i).base + 1, 1);
                require(opener.faults == 1, "exactly that page traps");
                must(region.protect(region.range(), Access::read), "protect all");
                store(page_at(region, 9).base + 1, 2);
                store(page_at(region, 10).base + 1, 2);
                require(opener.faults == 3, "page by page");
                must(region.unprotect(page_at(region, 2 * per_huge)), "unprotect one");
                store(page_at(region, 2 * per_huge).base + 1, 3);
                require(opener.faults == 3, "open");
                store(page_at(region, 2 * per_huge + 1).base + 1, 3);
                require(opener.faults == 4, "its neighbour is not");
                for (std::size_t i = 0; i < pages; ++i)
                  require(load(page_at(region, i).base) == (i * 7 & 0xff), "contents");
              }));
  }
}

// The kernel may merge small pages into huge ones at any time; marks must survive it.
TEST(Placement, CollapsingArmedPagesKeepsThemArmed) {
  constexpr int kCollapse = 25;  // MADV_COLLAPSE, 6.1
  constexpr std::size_t kHuge = 2_MiB;
  const std::size_t per_huge = kHuge / page_size();
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id, per_huge] {
                RegionOptions options = options_for(id, FaultKind::write_protected);
                options.huge_pages = HugePages::never;
                options.alignment = kHuge;
                Region region = must(Region::create(kHuge, options), "create");
                Opener opener;
                must(region.on_fault(Opener::open, &opener), "on_fault");
                for (std::size_t i = 0; i < per_huge; ++i) store(page_at(region, i).base, 1);
                must(region.protect(region.range(), Access::read), "protect");
                ::madvise(region.data(), kHuge, MADV_HUGEPAGE);
                static_cast<void>(::madvise(region.data(), kHuge, kCollapse));
                for (std::size_t i = 0; i < per_huge; i += 16) store(page_at(region, i).base, 2);
                require(opener.faults == static_cast<int>(per_huge / 16),
                        "every first write traps");
              }));
  }
  RegionOptions options;
  options.dirty = DirtyForm::scan;
  if (!Region::create(page_size(), options)) return;
  EXPECT_EQ(kSucceeded, in_child([per_huge] {
              RegionOptions tracked;
              tracked.dirty = DirtyForm::scan;
              tracked.alignment = kHuge;
              Region region = must(Region::create(kHuge, tracked), "create");
              for (std::size_t i = 0; i < per_huge; ++i) store(page_at(region, i).base, 1);
              must(region.arm_dirty(region.range()), "arm");
              store(page_at(region, 77).base, 2);
              static_cast<void>(::madvise(region.data(), kHuge, kCollapse));
              std::vector<PageRange> found;
              must(region.dirty(region.range(), found), "dirty");
              bool has = false;
              for (const PageRange& range : found)
                has = has || range.contains(page_at(region, 77).base);
              require(has, "the write before the collapse is reported");
            }));
}

// Who mapped memory that a region adopted may change its rights by mprotect(2): what that forbids
// is his affair, and no fault of the region's that is handled for ever.
TEST(Placement, RightsThatTheOwnerOfAdoptedMemoryTookAwayAreHis) {
  for (const BackendId id : {BackendId::uffd_inline, BackendId::uffd_thread}) {
    if (!capabilities(id, Backing::anonymous).faults.has(FaultKind::missing)) continue;
    SCOPED_TRACE(name(id));
    EXPECT_EQ(SIGSEGV, in_child([id] {
                         std::byte* const page = foreign_pages(1, PROT_READ | PROT_WRITE);
                         store(page, 1);
                         Region region =
                             must(Region::adopt(page_of(page), options_for(id, FaultKind::missing)),
                                  "adopt");
                         Opener opener;
                         must(region.on_fault(Opener::open, &opener), "on_fault");
                         require(::mprotect(page, page_size(), PROT_READ) == 0, "mprotect");
                         store(page, 2);
                       }).signal);
  }
}

}  // namespace
}  // namespace pagetrap::hazards
