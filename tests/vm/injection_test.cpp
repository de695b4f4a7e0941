// Every kernel call that a region depends on, made to fail: creation leaves nothing behind,
// operations say which call it was, and the region goes on working.
#include "sys/injection.hpp"

#include <dirent.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <pagetrap/vm/vm.hpp>

namespace pagetrap {
namespace {

using sys::Call;

class Injection : public ::testing::Test {
 protected:
  void SetUp() override {
    // Descriptors and tables that the library keeps for good are made by the first regions.
    for (const Backend& backend : backends())
      static_cast<void>(Region::create(page_size(), {.backend = backend.id}));
  }
  void TearDown() override { sys::inject(Call::none, 0); }
};

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* const directory = ::opendir("/proc/self/fd");
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

// Address space held by mappings that the library names or that are of an odd size of its own.
std::size_t mapped_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t pages = 0;
  file >> pages;
  return pages * page_size();
}

void expect_clean_refusal(Call call, const RegionOptions& options, int skip) {
  constexpr std::size_t kOdd = 64_MiB;
  const std::size_t descriptors = open_descriptors();
  const std::size_t mapped = mapped_bytes();
  sys::inject(call, ENOMEM, skip);
  const auto region = Region::create(kOdd, options);
  sys::inject(Call::none, 0);
  if (region) return;  // that call is not made that often
  EXPECT_EQ(region.error().number, ENOMEM) << describe(region.error());
  EXPECT_STRNE(region.error().operation, "");
  EXPECT_EQ(open_descriptors(), descriptors) << describe(region.error());
  EXPECT_LT(mapped_bytes(), mapped + kOdd / 2) << describe(region.error());
}

TEST_F(Injection, CreationThatFailsLeavesNothingBehind) {
  for (const Backend& backend : backends()) {
    if (!backend.available) continue;
    for (const Backing backing : {Backing::anonymous, Backing::memfd}) {
      RegionOptions options;
      options.backend = backend.id;
      options.backing = backing;
      options.faults = FaultKind::write_protected;
      if (backend.id != BackendId::pkey) options.faults = options.faults | FaultKind::missing;
      for (const Call call : {Call::mmap, Call::memfd_create, Call::userfaultfd,
                              Call::uffd_register, Call::mprotect, Call::pkey_alloc}) {
        for (const int skip : {0, 1, 2}) expect_clean_refusal(call, options, skip);
      }
    }
  }
}

TEST_F(Injection, DirtyFormsThatCannotStartSayWhy) {
  sys::inject(Call::perf_event_open, EACCES);
  const auto ring = Region::create(1_MiB, {.dirty = DirtyForm::ring});
  sys::inject(Call::none, 0);
  ASSERT_FALSE(ring);
  EXPECT_TRUE(ring.error().number == EACCES || ring.error().number == ENOTSUP);
}

Verdict open_page(void*, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
}

TEST_F(Injection, OperationsNameTheCallAndCanBeRepeated) {
  struct Case {
    BackendId backend;
    Call call;
  };
  for (const Case& one : {Case{BackendId::mprotect, Call::mprotect},
                          Case{BackendId::uffd_inline, Call::uffd_write_protect}}) {
    auto made = Region::create(8 * page_size(), {.backend = one.backend});
    if (!made) continue;
    Region& region = *made;
    ASSERT_TRUE(region.on_fault(open_page, nullptr));
    std::memset(region.data(), 1, region.size_bytes());
    // Fails for good: the general way tries the kernel again after the short one.
    sys::inject(one.call, ENOMEM, 0, 100);
    const auto refused = region.protect(region.range(), Access::read);
    sys::inject(Call::none, 0);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number, ENOMEM);
    EXPECT_EQ(refused.error().range.base, region.data());
    ASSERT_TRUE(region.protect(region.range(), Access::read));
    EXPECT_TRUE(region.touch(region.data(), true));
  }
}

TEST_F(Injection, AFillThatFailsLeavesThePageMissing) {
  struct Case {
    BackendId backend;
    Call call;
  };
  for (const Case& one :
       {Case{BackendId::mprotect, Call::pwrite}, Case{BackendId::mprotect, Call::mprotect},
        Case{BackendId::uffd_inline, Call::uffd_copy}}) {
    auto made =
        Region::create(4 * page_size(), {.faults = FaultKind::missing, .backend = one.backend});
    if (!made) continue;
    Region& region = *made;
    std::vector<std::byte> contents(page_size(), std::byte{5});
    const PageRange page{region.data() + page_size(), Pages{1}};
    sys::inject(one.call, ENOSPC);
    const auto refused = region.supply(page, contents.data(), Supply::copy);
    sys::inject(Call::none, 0);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number, ENOSPC);
    EXPECT_EQ(region.page_state(page.base), PageState::missing);
    const auto filled = region.supply(page, contents.data(), Supply::copy);
    ASSERT_TRUE(filled);
    EXPECT_EQ(*filled, Pages{1});
    EXPECT_EQ(*page.base, std::byte{5});
  }
}

TEST_F(Injection, TransientEAGAINIsRetried) {
  auto made = Region::create(2 * page_size(),
                             {.faults = FaultKind::missing, .backend = BackendId::uffd_inline});
  if (!made) GTEST_SKIP() << describe(made.error());
  sys::inject(Call::uffd_zero, EAGAIN, 0, 3);
  EXPECT_TRUE(made->supply({made->data(), Pages{1}}, nullptr, Supply::zero));
  EXPECT_EQ(*made->data(), std::byte{0});
}

TEST_F(Injection, DirtyLosesNoPageWhenCollectingFails) {
  for (const DirtyForm form : {DirtyForm::scan, DirtyForm::traps, DirtyForm::ring}) {
    auto made = Region::create(64 * page_size(), {.dirty = form});
    if (!made) continue;
    Region& region = *made;
    std::memset(region.data(), 1, region.size_bytes());
    ASSERT_TRUE(region.arm_dirty(region.range()));
    region.data()[3 * page_size()] = std::byte{2};
    region.data()[40 * page_size()] = std::byte{2};
    std::vector<PageRange> found;
    sys::inject(form == DirtyForm::traps ? Call::uffd_write_protect : Call::pagemap_scan, ENOMEM, 0,
                form == DirtyForm::traps ? 100 : 1);
    const auto refused = region.dirty(region.range(), found);
    sys::inject(Call::none, 0);
    EXPECT_FALSE(refused);
    ASSERT_TRUE(region.dirty(region.range(), found));
    bool third = false;
    bool fortieth = false;
    for (const PageRange& run : found) {
      third = third || run.contains(region.data() + 3 * page_size());
      fortieth = fortieth || run.contains(region.data() + 40 * page_size());
    }
    EXPECT_TRUE(third && fortieth) << "form " << static_cast<int>(form);
  }
}

TEST_F(Injection, ALiftThatFailsLeavesTheRegionAsItWas) {
  auto made = Region::create(1_GiB, {.liftable = true});
  if (!made) GTEST_SKIP() << describe(made.error());
  Region& region = *made;
  region.data()[5 * page_size()] = std::byte{7};
  sys::inject(Call::mremap, ENOMEM);
  const auto refused = region.lift();
  sys::inject(Call::none, 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().number, ENOMEM);
  EXPECT_EQ(region.data()[5 * page_size()], std::byte{7});
  region.data()[6 * page_size()] = std::byte{8};
  auto lift = region.lift();
  ASSERT_TRUE(lift) << describe(lift.error());
  EXPECT_EQ(*lift->at(region.data() + 5 * page_size()), std::byte{7});
  ASSERT_TRUE(lift->finish());
  EXPECT_EQ(region.data()[6 * page_size()], std::byte{8});
}

}  // namespace
}  // namespace pagetrap
