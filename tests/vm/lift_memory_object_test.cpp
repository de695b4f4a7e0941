// Lift of a memory object: its pages need no way back, and the window tells which were written.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>

#include <pagetrap/vm/vm.hpp>

namespace pagetrap {
namespace {

constexpr std::size_t kPages = 1024;

struct Published {
  std::atomic<int> faults{0};
};

Verdict publish(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  static_cast<Published*>(self)->faults.fetch_add(1);
  const auto done = fault.region->supply(fault.page, nullptr, Supply::publish, Access::read);
  return done ? Verdict::resolved : Verdict::not_mine;
}

RegionOptions liftable_object() {
  RegionOptions options;
  options.backing = Backing::memfd;
  options.faults = FaultKind::minor;
  options.delivery = Delivery::faulting_thread;
  options.backend = BackendId::uffd_inline;
  options.dirty = DirtyForm::scan;
  options.liftable = true;
  return options;
}

std::byte read_again(const std::byte* at) {
  return std::byte{*reinterpret_cast<const volatile unsigned char*>(at)};
}

class LiftOfAMemoryObject : public testing::Test {
 protected:
  void SetUp() override {
    auto region = Region::create(bytes(Pages{kPages}), liftable_object());
    if (!region && region.error().number == ENOTSUP) GTEST_SKIP() << describe(region.error());
    region_ = std::move(region).value();
    view_ = region_.map_twice(Access::read_write).value();
    for (std::size_t i = 0; i < kPages; ++i) *view_.at(page(i)) = static_cast<std::byte>(i % 251);
    ASSERT_TRUE(region_.on_fault(publish, &published_));
  }
  std::byte* page(std::size_t i) const { return region_.data() + bytes(Pages{i}); }
  Region region_;
  View view_;
  Published published_;
};

TEST_F(LiftOfAMemoryObject, EveryPageFaultsAgainAndHasItsContents) {
  for (int round = 0; round < 3; ++round) {
    published_.faults = 0;
    auto lift = region_.lift().value();
    for (std::size_t i = 0; i < kPages; ++i)
      ASSERT_EQ(read_again(page(i)), static_cast<std::byte>(i % 251));
    EXPECT_EQ(published_.faults.load(), static_cast<int>(kPages));
    EXPECT_TRUE(lift.finish());
    EXPECT_EQ(read_again(page(7)), std::byte{7});
    EXPECT_EQ(published_.faults.load(), static_cast<int>(kPages));
  }
}

TEST_F(LiftOfAMemoryObject, TheWindowTellsWhatWasWritten) {
  auto lifted = region_.lift().value();  // arms: pages come armed from now on
  ASSERT_TRUE(region_.supply(region_.range(), nullptr, Supply::publish, Access::read));
  ASSERT_TRUE(lifted.finish());
  for (const std::size_t i : {5U, 6U, 700U}) *page(i) = std::byte{1};
  // Reading is not writing.
  EXPECT_EQ(read_again(page(9)), std::byte{9});
  auto again = region_.lift().value();
  *page(30) = std::byte{2};  // after the lift: not of this one
  std::array<PageRange, 8> runs;
  const auto found = again.pages(region_.range(), LiftedPages::written, runs);
  ASSERT_TRUE(found) << describe(found.error());
  ASSERT_EQ(*found, 2U);
  EXPECT_EQ(runs[0], (PageRange{page(5), Pages{2}}));
  EXPECT_EQ(runs[1], (PageRange{page(700), Pages{1}}));
  ASSERT_TRUE(again.finish());
  auto third = region_.lift().value();
  const auto next = third.pages(region_.range(), LiftedPages::written, runs);
  ASSERT_TRUE(next) << describe(next.error());
  ASSERT_EQ(*next, 1U);
  EXPECT_EQ(runs[0], (PageRange{page(30), Pages{1}}));
}

TEST_F(LiftOfAMemoryObject, HasNoOtherWayBack) {
  auto lift = region_.lift().value();
  const auto restored = lift.restore(region_.range());
  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().number, ENOTSUP);
  const auto put_back = lift.put_back(region_.range());
  ASSERT_FALSE(put_back);
  EXPECT_EQ(put_back.error().number, ENOTSUP);
}

TEST(LiftOptions, AMemoryObjectNeedsMinorFaultsInTheFaultingThread) {
  for (const auto& change : std::array<void (*)(RegionOptions&), 3>{
           [](RegionOptions& options) { options.faults = FaultKind::minor | FaultKind::missing; },
           [](RegionOptions& options) { options.backend = BackendId::uffd_thread; },
           [](RegionOptions& options) { options.backend = BackendId::mprotect; }}) {
    RegionOptions options = liftable_object();
    options.delivery = Delivery::any;
    change(options);
    const auto region = Region::create(bytes(Pages{4}), options);
    ASSERT_FALSE(region);
    EXPECT_EQ(region.error().number, ENOTSUP) << describe(region.error());
  }
}

}  // namespace
}  // namespace pagetrap
