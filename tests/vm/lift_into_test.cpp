// lift_into: private memory whose contents go to addresses of the caller's, and come back by
// supply().
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstring>

#include <pagetrap/vm/vm.hpp>

namespace pagetrap {
namespace {

constexpr std::size_t kPages = 1024;
constexpr std::size_t kSubtree = std::size_t{1} << 30;

class LiftInto : public testing::Test {
 protected:
  void SetUp() override {
    RegionOptions options;
    options.faults = FaultKind::missing;
    options.delivery = Delivery::faulting_thread;
    options.backend = BackendId::uffd_inline;
    options.dirty = DirtyForm::scan;
    options.liftable = true;
    auto region = Region::create(bytes(Pages{kPages}), options);
    if (!region && region.error().number == ENOTSUP) GTEST_SKIP() << describe(region.error());
    region_ = std::move(region).value();
    reserved_ = ::mmap(nullptr, 2 * kSubtree, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(reserved_, MAP_FAILED);
    const auto first = reinterpret_cast<std::uintptr_t>(reserved_);
    window_ = reinterpret_cast<std::byte*>((first + kSubtree - 1) & ~(kSubtree - 1));
    ASSERT_EQ(::mprotect(window_, region_.size_bytes(), PROT_READ | PROT_WRITE), 0);
    ASSERT_TRUE(region_.on_fault(supply, this));
  }
  void TearDown() override {
    region_ = Region();
    if (reserved_ != nullptr) ::munmap(reserved_, 2 * kSubtree);
  }
  static Verdict supply(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    auto& here = *static_cast<LiftInto*>(self);
    here.faults_.fetch_add(1);
    const auto done =
        fault.region->supply(fault.page, here.in_window(fault.page.base), Supply::copy,
                             fault.write ? Access::read_write : Access::read);
    return done ? Verdict::resolved : Verdict::not_mine;
  }
  std::byte* in_window(const std::byte* page) const { return window_ + (page - region_.data()); }
  std::byte* page(std::size_t i) const { return region_.data() + bytes(Pages{i}); }
  PageRange pages(std::size_t first, std::size_t count) const {
    return {page(first), Pages{count}};
  }

  Region region_;
  void* reserved_ = nullptr;
  std::byte* window_ = nullptr;
  std::atomic<int> faults_{0};
};

TEST_F(LiftInto, ContentsAreInTheWindowAndComeBackByTraps) {
  for (std::size_t i = 0; i < kPages; ++i) *page(i) = static_cast<std::byte>(i % 251);
  for (int round = 0; round < 3; ++round) {
    faults_ = 0;
    auto lift = region_.lift_into(window_).value();
    EXPECT_EQ(lift.window().base, window_);
    for (std::size_t i = 0; i < kPages; ++i)
      ASSERT_EQ(*in_window(page(i)), static_cast<std::byte>(i % 251));
    for (std::size_t i = 0; i < kPages; ++i)
      ASSERT_EQ(*page(i), static_cast<std::byte>(i % 251)) << "round " << round;
    EXPECT_EQ(faults_, static_cast<int>(kPages));
    ASSERT_TRUE(lift.finish());
    // Memory of the caller's again, and nothing in it.
    EXPECT_EQ(*in_window(page(5)), std::byte{0});
    *in_window(page(5)) = std::byte{1};
  }
}

TEST_F(LiftInto, TheWindowTellsWhatWasWritten) {
  for (std::size_t i = 0; i < 100; ++i) *page(i) = std::byte{1};
  auto first = region_.lift_into(window_).value();
  ASSERT_TRUE(region_.supply(pages(0, 100), window_, Supply::copy, Access::read));
  ASSERT_TRUE(first.finish());
  *page(30) = std::byte{2};
  *page(31) = std::byte{2};
  *page(77) = std::byte{2};
  auto second = region_.lift_into(window_).value();
  std::array<PageRange, kPages / 2> runs;
  ASSERT_EQ(second.pages(region_.range(), LiftedPages::written, runs).value(), 2U);
  EXPECT_EQ(runs[0], pages(30, 2));
  EXPECT_EQ(runs[1], pages(77, 1));
  ASSERT_TRUE(second.finish());
}

TEST_F(LiftInto, HolesOfTheWindowAreFilledWhenAsked) {
  *page(1) = std::byte{7};
  auto lift = region_.lift_into(window_).value();
  ASSERT_TRUE(lift.fill(pages(0, 3)));
  EXPECT_EQ(*in_window(page(1)), std::byte{7}) << "what is there is left";
  *in_window(page(2)) = std::byte{9};
  EXPECT_EQ(*page(2), std::byte{9});
  EXPECT_EQ(lift.fill({region_.data() - 4096, Pages{1}}).error().number, EINVAL);
  EXPECT_EQ(lift.restore(pages(0, 1)).error().number, ENOTSUP);
  ASSERT_TRUE(lift.finish());
  EXPECT_EQ(lift.fill(pages(0, 1)).error().number, EBADF);
}

TEST_F(LiftInto, RefusesWhatItCannotDo) {
  EXPECT_EQ(region_.lift_into(nullptr).error().number, EINVAL);
  EXPECT_EQ(region_.lift_into(window_ + 4096).error().number, EINVAL);
  RegionOptions options;
  options.liftable = true;
  options.backend = BackendId::uffd_inline;
  options.delivery = Delivery::faulting_thread;
  auto other = Region::create(bytes(Pages{16}), options);
  ASSERT_TRUE(other) << describe(other.error());
  EXPECT_EQ(other->lift_into(window_).error().number, ENOTSUP);
}

}  // namespace
}  // namespace pagetrap
